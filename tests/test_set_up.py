"""Setting up .venv: who is refused, what an interrupted run leaves behind, and what each extra is needed for.

Nothing is installed here: a stand-in for Python makes environments whose pip and uv write down what they are told,
and uv the index as well, which is that of pip's settings.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT, Run
from packaging.requirements import Requirement

MADE_BY_STAND_IN = r"""#!/bin/sh
# Takes the version from $VERSION; an installation fails where $BROKEN says so.
case "$1 ${2:-}" in
"--version ") echo "Python $VERSION" ;;
"-c "*) [ "$VERSION" != 3.9.18 ] ;;
"-m venv")
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    echo '#!/bin/sh' >.venv/bin/pip
    echo 'echo pip "$@" >>installs; [ "$BROKEN" != pip ]' >>.venv/bin/pip
    chmod +x .venv/bin/pip ;;
"-m pip") echo ":env:.index-url='$PIP_INDEX_URL'" ;;
"-m uv") shift; echo "$UV_DEFAULT_INDEX $@" >>installs; [ "$BROKEN" != uv ] ;;
esac
"""

INDEX = "https://index.invalid/simple"


@pytest.fixture
def new_checkout(checkout: Path) -> Path:
    """A checkout that nobody has set up, with the stand-in beside it."""
    (checkout / ".venv").unlink()
    stand_in = checkout / "python-stand-in"
    stand_in.write_text(MADE_BY_STAND_IN)
    stand_in.chmod(0o755)
    return checkout


def make(checkout: Path, target: str, version: str = "3.11.9", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", target, f"PYTHON={checkout / 'python-stand-in'}"],
        cwd=checkout,
        env=os.environ | {"VERSION": version, "BROKEN": "", "INSTALLER": "uv", "PIP_INDEX_URL": INDEX} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def installs(checkout: Path) -> list[str]:
    return (checkout / "installs").read_text().splitlines()


def test_wrong_python_is_refused_at_once_by_name_and_version(new_checkout: Path) -> None:
    began = time.monotonic()
    refused = make(new_checkout, "load", "3.9.18")

    assert time.monotonic() - began < 2
    assert refused.returncode != 0
    said = refused.stderr.splitlines()[0]
    assert "python-stand-in" in said and "3.9.18" in said and "3.11" in said
    assert not (new_checkout / ".venv").exists()


def test_missing_python_is_named(new_checkout: Path) -> None:
    (new_checkout / "python-stand-in").unlink()
    refused = make(new_checkout, "load")

    assert refused.returncode != 0
    assert "There is no" in refused.stderr and "python-stand-in" in refused.stderr


@pytest.mark.parametrize("broken", ["pip", "uv"])
def test_failed_set_up_leaves_nothing_that_a_later_one_trusts(new_checkout: Path, broken: str) -> None:
    failed = make(new_checkout, ".venv/installed", BROKEN=broken)
    assert failed.returncode != 0
    left = new_checkout / ".venv" / "half-installed"
    left.touch()

    done = make(new_checkout, ".venv/installed")
    assert done.returncode == 0, done.stderr
    assert not left.exists()
    assert (new_checkout / ".venv" / "installed").exists()


def test_failed_extra_takes_the_trust_from_the_rest(new_checkout: Path) -> None:
    assert make(new_checkout, ".venv/installed").returncode == 0
    assert make(new_checkout, "gcp", BROKEN="uv").returncode != 0
    left = new_checkout / ".venv" / "half-installed"
    left.touch()

    assert make(new_checkout, ".venv/installed").returncode == 0
    assert not left.exists()


def test_environment_of_somebody_else_is_kept(new_checkout: Path) -> None:
    (new_checkout / ".venv").mkdir()
    kept = new_checkout / ".venv" / "of-somebody-else"
    kept.touch()

    assert make(new_checkout, ".venv/installed").returncode == 0
    assert kept.exists()


def test_only_one_is_at_work(new_checkout: Path) -> None:
    (new_checkout / ".venv").mkdir()
    (new_checkout / ".venv" / "unfinished").write_text(f"{os.getpid()}\n")
    refused = make(new_checkout, ".venv/installed")

    assert refused.returncode != 0
    assert f"process {os.getpid()}" in refused.stderr


def test_uv_installs_what_is_locked_and_is_so_itself(new_checkout: Path) -> None:
    done = make(new_checkout, ".venv/installed-gcp")

    assert done.returncode == 0, done.stderr
    itself, packages, checkout = installs(new_checkout)
    assert itself.startswith("pip install ") and "--require-hashes" in itself
    assert packages.startswith(f"{INDEX} uv pip install ") and packages.endswith("--requirement setup.cfg --extra gcp")
    assert "--constraint requirements.lock" in packages
    assert checkout.startswith(f"{INDEX} uv pip install ") and checkout.endswith("--editable .")


def test_pip_can_be_had_instead(new_checkout: Path) -> None:
    assert make(new_checkout, ".venv/installed", INSTALLER="pip").returncode == 0

    (only,) = installs(new_checkout)
    assert only.startswith("pip install ") and only.endswith("--editable .")


def test_set_up_is_done_once_for_each_set_of_packages(new_checkout: Path) -> None:
    for target in (".venv/installed-test", ".venv/installed", "gcp", ".venv/installed-test"):
        assert make(new_checkout, target).returncode == 0
    assert [line for line in installs(new_checkout) if line.startswith(INDEX)] == installs(new_checkout)[1:3]

    os.utime(new_checkout / "setup.cfg", (time.time() + 5,) * 2)
    assert make(new_checkout, ".venv/installed").returncode == 0
    assert len(installs(new_checkout)) == 6


def test_extras_hold_what_only_they_need() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(CHECKOUT / "setup.cfg")
    core = {Requirement(line).name for line in config["options"]["install_requires"].split("\n")[1:]}
    gcp = {Requirement(line).name for line in config["options.extras_require"]["gcp"].split("\n")[1:]}

    assert [name for name in core if re.search("google-cloud|bigquery", name)] == []
    assert gcp == {"google-cloud-storage", "google-cloud-bigquery", "dbt-bigquery"}


WITHOUT_GOOGLE = """
import sys
from importlib.abc import MetaPathFinder

GOOGLE = ("google.cloud", "google.auth", "google.api_core", "google.oauth2", "dbt.adapters.bigquery")

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(GOOGLE):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""


def test_month_is_loaded_without_the_libraries_of_google(luigi: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_GOOGLE)
    missing = subprocess.run(
        [sys.executable, "-c", "import google.cloud.storage"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert missing.returncode == 1

    loaded = luigi("LoadTripdata", "--taxi", "green", "--month", "2019-01", PYTHONPATH=str(tmp_path))
    assert loaded.returncode == 0, loaded.stderr
