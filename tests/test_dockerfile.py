"""The image, without building it: rules for the Dockerfile, the files in the image and the versions it installs."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, CHECKOUT, settings
from packaging.requirements import Requirement

from pipeline.warehouses.postgres.connection import PostgresDatabase

DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()
LOCK = CHECKOUT / "requirements.lock"
PINNED = re.compile(
    r"^([\w.-]+)==(\S+)(?: ; [^\\\n]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)((?:\n    # .*)*)", re.MULTILINE
)


def requirements() -> dict[str, Requirement]:
    """The requirements of the package in setup.cfg, without those of its tests."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(CHECKOUT / "setup.cfg")
    listed = config["options"]["install_requires"] + config["options.extras_require"]["gcp"]
    return {requirement.name.lower(): requirement for requirement in map(Requirement, listed.split("\n")[1:])}


def test_every_requirement_has_an_upper_bound() -> None:
    bounded = {
        name
        for name, requirement in requirements().items()
        if any(s.operator in ("<", "==") for s in requirement.specifier)
    }
    assert bounded == set(requirements())


def test_lock_satisfies_the_requirements() -> None:
    pinned = PINNED.findall(LOCK.read_text())
    direct = {name for name, _, _, reasons in pinned if "tlc-pipeline (setup.cfg)" in reasons}

    assert set(requirements()) - direct == set(), "run `make lock`"
    assert len(pinned) == len(re.findall(r"^\w.*==", LOCK.read_text(), re.MULTILINE)), "every package has hashes"
    outside = [
        name for name, version, *_ in pinned if name in requirements() and version not in requirements()[name].specifier
    ]
    assert outside == [], "run `make lock`"


def test_lock_names_no_package_index() -> None:
    assert "://" not in LOCK.read_text()
    assert not re.search(r"^--?(?!hash)", LOCK.read_text(), re.MULTILINE)


def test_dockerfile_passes_hadolint() -> None:
    linted = subprocess.run([BIN / "hadolint", CHECKOUT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    assert linted.stdout == ""


def test_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[-1] != "0"


def test_files_of_a_private_checkout_can_be_read_in_the_image() -> None:
    assert re.search(r"^COPY \. \./\n(?:#.*\n)*RUN chmod -R a\+rX \.", DOCKERFILE, re.MULTILINE)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A read-only folder with the files that .dockerignore lets into the image."""
    kept = re.findall(r"^!(\S+)$", (CHECKOUT / ".dockerignore").read_text(), re.MULTILINE)
    folder = tmp_path / "app"
    folder.mkdir()
    for path in (CHECKOUT / name for name in kept):
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy2(path, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    return folder


def test_files_in_the_image_are_sufficient_to_load_a_month(
    app: Path, tmp_path: Path, database: PostgresDatabase, mirror: Path
) -> None:
    name, *arguments = json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[-1])
    loaded = subprocess.run(
        [BIN / name, *arguments, "LoadTripdata", "--taxi", "green", "--month", "2019-01"],
        cwd=app,
        env=os.environ | settings(tmp_path, database, mirror) | {"PYTHONPATH": str(app), "HOME": "/tmp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr


def test_image_cannot_contain_secrets(app: Path) -> None:
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "files that are not named are excluded"
    assert not [path.name for path in app.iterdir() if path.name in {".env", "pipeline.env", ".git", "data", ".venv"}]
