"""Setting up .venv: unsupported versions of Python, failed set-ups, and the packages of each extra.

Nothing is installed here: a stand-in for Python creates environments in which pip and uv write their arguments to
`installs`. uv also writes its index, which is that of pip's settings.
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

STAND_IN = r"""#!/bin/sh
# Has the version $VERSION; the installer that $BROKEN names fails.
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
    """A checkout that contains the stand-in and has no .venv."""
    (checkout / ".venv").unlink()
    stand_in = checkout / "python-stand-in"
    stand_in.write_text(STAND_IN)
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


def test_unsupported_python_is_refused_immediately_with_name_and_version(new_checkout: Path) -> None:
    start = time.monotonic()
    refused = make(new_checkout, "load", "3.9.18")

    assert time.monotonic() - start < 2
    assert refused.returncode != 0
    message = refused.stderr.splitlines()[0]
    assert "python-stand-in" in message and "3.9.18" in message and "3.11" in message
    assert not (new_checkout / ".venv").exists()


def test_missing_python_is_reported(new_checkout: Path) -> None:
    (new_checkout / "python-stand-in").unlink()
    refused = make(new_checkout, "load")

    assert refused.returncode != 0
    assert "There is no" in refused.stderr and "python-stand-in" in refused.stderr


@pytest.mark.parametrize("broken", ["pip", "uv"])
def test_set_up_after_a_failed_one_starts_over(new_checkout: Path, broken: str) -> None:
    failed = make(new_checkout, ".venv/installed", BROKEN=broken)
    assert failed.returncode != 0
    left = new_checkout / ".venv" / "half-installed"
    left.touch()

    done = make(new_checkout, ".venv/installed")
    assert done.returncode == 0, done.stderr
    assert not left.exists()
    assert (new_checkout / ".venv" / "installed").exists()


def test_set_up_after_a_failed_extra_starts_over(new_checkout: Path) -> None:
    assert make(new_checkout, ".venv/installed").returncode == 0
    assert make(new_checkout, "gcp", BROKEN="uv").returncode != 0
    left = new_checkout / ".venv" / "half-installed"
    left.touch()

    assert make(new_checkout, ".venv/installed").returncode == 0
    assert not left.exists()


def test_environment_that_the_user_created_is_kept(new_checkout: Path) -> None:
    (new_checkout / ".venv").mkdir()
    kept = new_checkout / ".venv" / "of-the-user"
    kept.touch()

    assert make(new_checkout, ".venv/installed").returncode == 0
    assert kept.exists()


def test_set_up_is_refused_while_another_one_runs(new_checkout: Path) -> None:
    (new_checkout / ".venv").mkdir()
    (new_checkout / ".venv" / "unfinished").write_text(f"{os.getpid()}\n")
    refused = make(new_checkout, ".venv/installed")

    assert refused.returncode != 0
    assert f"process {os.getpid()}" in refused.stderr


def test_uv_is_locked_and_installs_locked_versions(new_checkout: Path) -> None:
    done = make(new_checkout, ".venv/installed-gcp")

    assert done.returncode == 0, done.stderr
    uv, packages, checkout = installs(new_checkout)
    assert uv.startswith("pip install ") and "--require-hashes" in uv
    assert packages.startswith(f"{INDEX} uv pip install ") and packages.endswith("--requirement setup.cfg --extra gcp")
    assert "--constraint requirements.lock" in packages
    assert checkout.startswith(f"{INDEX} uv pip install ") and checkout.endswith("--editable .")


def test_pip_can_be_used_instead_of_uv(new_checkout: Path) -> None:
    assert make(new_checkout, ".venv/installed", INSTALLER="pip").returncode == 0

    (only,) = installs(new_checkout)
    assert only.startswith("pip install ") and only.endswith("--editable .")


def test_packages_of_each_extra_are_installed_once_until_setup_cfg_changes(new_checkout: Path) -> None:
    for target in (".venv/installed-test", ".venv/installed", "gcp", ".venv/installed-test"):
        assert make(new_checkout, target).returncode == 0
    assert [line for line in installs(new_checkout) if line.startswith(INDEX)] == installs(new_checkout)[1:3]

    os.utime(new_checkout / "setup.cfg", (time.time() + 5,) * 2)
    assert make(new_checkout, ".venv/installed").returncode == 0
    assert len(installs(new_checkout)) == 6


def test_packages_for_google_are_only_in_the_gcp_extra() -> None:
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


def test_month_is_loaded_without_googles_libraries(luigi: Run, tmp_path: Path) -> None:
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
