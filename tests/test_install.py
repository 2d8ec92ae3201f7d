"""Installation as a program: sdist and wheel are built, and the wheel is used in empty folders without a checkout."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, CHECKOUT

from pipeline.warehouses.postgres.connection import PostgresDatabase


def run(*command: Any, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE", "PYTHONPATH"))}
    return subprocess.run(
        command, cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "tlc"
    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(lambda name: (CHECKOUT / name).is_file(), tracked.splitlines()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((CHECKOUT / name).read_bytes())
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
    done = run(
        BIN / "uv", "build", "--quiet", *isolation, "--python", sys.executable, "--out-dir", folder, ".", cwd=source
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of an environment with the wheel; it uses the libraries of this one, but not the checkout."""
    environment = tmp_path_factory.mktemp("program") / "venv"
    python = environment / "bin" / "python"
    assert run(BIN / "uv", "venv", "--quiet", "--python", BIN / "python", environment, cwd=built).returncode == 0
    [wheel] = built.glob("*.whl")
    done = run(BIN / "uv", "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", python, wheel, cwd=built)
    assert done.returncode == 0, done.stderr
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=built).stdout.strip())
    # Modules in a folder that a .pth file names are found, but a .pth file there, such as the checkout's, is not read.
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    yield environment / "bin"


def test_sdist_contains_files_of_every_kind_that_the_wheel_needs(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    for name in ("luigi.cfg", "sql/postgres/ledger.sql", "dbt/dbt_project.yml", "samples/misc/taxi_zone_lookup.csv"):
        assert name in names


def test_demo_loads_real_months_and_writes_the_report_regardless_of_settings(installed: Path, tmp_path: Path) -> None:
    empty, home = tmp_path / "empty", tmp_path / "my share"
    empty.mkdir()
    # Settings in the environment must not affect the demo: with these, no load would succeed.
    settings = {"PIPELINE__POSTGRES__DSN": "host=127.0.0.1 port=1", "PIPELINE__SOURCE__BASE_URL": str(tmp_path)}
    done = run(installed / "pipeline", "demo", cwd=empty, XDG_DATA_HOME=str(home), **settings)
    demo = home / "tlc-pipeline" / "demo"
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"^(\S+) +\S+ +([\d,]+) +0 +0 ", done.stdout, re.MULTILINE) == [
            ("green/2020-04", "35,612"),
            ("green/2020-05", "57,360"),
            ("zones", "265"),
            ("yellow/2021-01", "28,401"),
        ]
        page = demo / "data" / "reports" / "postgres" / "index.html"
        assert page.as_uri() in done.stdout and page.is_file()
        assert "parts/yellow" in done.stdout
        assert f"cd '{demo}'" in done.stdout
        assert list(empty.iterdir()) == []
    finally:
        run(installed / "pipeline", "stop", cwd=demo, XDG_DATA_HOME=str(home))


def test_pipeline_and_luigi_run_in_an_empty_folder(installed: Path, tmp_path: Path, database: PostgresDatabase) -> None:
    empty, home = tmp_path / "empty", tmp_path / "share"
    empty.mkdir()
    environment = {
        "XDG_DATA_HOME": str(home),
        "PIPELINE__POSTGRES__DSN": database.dsn,
        "PIPELINE__POSTGRES__SCHEMA": database.schema,
        "PIPELINE__SOURCE__BASE_URL": str(CHECKOUT / "samples"),
    }
    done = run(installed / "pipeline", "load", "green", "2020-04", cwd=empty, **environment)
    assert done.returncode == 0, done.stderr
    load = ("LoadTripdata", "--taxi", "green", "--month")
    again = run(installed / "luigi", "--module", "pipeline", *load, "2020-04", cwd=empty, **environment)
    assert again.returncode == 0 and "Did not run any tasks" in again.stderr, again.stderr
    # Without the shipped luigi.cfg, the exit code is 0 after a failure too.
    unreachable = {"PIPELINE__POSTGRES__DSN": "host=127.0.0.1 port=1"}
    for code, command, changed in (
        (30, ("luigi", "--module", "pipeline", *load, "2019-01"), {}),
        (35, ("luigi", "--module", "pipeline", *load, "2020-05"), unreachable),
        (40, ("luigi", "--module", "pipeline", *load, "2020-13"), {}),
        (30, ("pipeline", "load", "green", "2019-01"), {}),
        (1, ("pipeline", "status"), unreachable),
        (2, ("pipeline", "stauts"), {}),
    ):
        failed = run(installed / command[0], *command[1:], cwd=empty, **environment | changed)
        assert failed.returncode == code, failed.stderr
        assert "Traceback" not in failed.stderr
    assert list(empty.iterdir()) == []
    assert (home / "tlc-pipeline" / "data" / "raw" / "green" / "green_tripdata_2020-04.csv.gz").is_file()
    where = run(
        installed / "python", "-c", "import pipeline.files as f; print(f.SHIPPED)", cwd=empty, **environment
    ).stdout
    assert "site-packages" in where


def test_missing_module_or_invalid_configuration_is_reported_in_one_line(installed: Path, tmp_path: Path) -> None:
    load = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")
    for arguments in ((), ("-h",)):
        none = run(installed / "luigi", *arguments, cwd=tmp_path)
        assert (none.returncode, none.stderr) == (
            1,
            "luigi: no task is given; `pipeline tasks` lists those of this pipeline, with examples\n",
        )
    wrong = run(installed / "luigi", *load, cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "luigi: which module is this task in? For this pipeline's: "
        "luigi --module pipeline LoadTripdata --taxi green --month 2019-01\n",
    )
    for option in (("--module", "pipelin"), ("--module=pipelin",)):
        wrong = run(installed / "luigi", *option, *load, cwd=tmp_path)
        assert wrong.returncode == 2
        assert wrong.stderr == "luigi: there is no module 'pipelin'; this pipeline's is: --module pipeline\n"
    (tmp_path / "unrelated.py").write_text("import luigi, sys\nprint('pipeline' in sys.modules)\n")
    unrelated = run(installed / "luigi", "--module", "unrelated", "Unrelated", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert unrelated.stdout == "False\n" and "TaskClassNotFoundException: No task Unrelated" in unrelated.stderr

    for text, reason in (
        ("no section\n", "File contains no section headers."),
        ("# Düne\n", "luigi.cfg, line 1 is not UTF-8"),
    ):
        (tmp_path / "luigi.cfg").write_text(text, encoding="latin-1")
        broken = run(installed / "luigi", "--module", "pipeline", *load, cwd=tmp_path)
        assert broken.returncode == 1 and broken.stderr.count("\n") == 1
        assert broken.stderr.startswith(f"luigi: a configuration file cannot be read: {reason}")
