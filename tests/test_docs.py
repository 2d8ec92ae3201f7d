"""README and docs: every command in them is run in a copy of the checkout; links and settings are checked."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BIN, CHECKOUT, settings

from pipeline.datasets import all_datasets, dataset_named
from pipeline.datasets.spec_reader import read_spec
from pipeline.sample import write_month, write_zones
from pipeline.settings import Section
from pipeline.warehouses.postgres.connection import PostgresDatabase

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
# Commands on the other pages assume that the README's first month is loaded.
FIRST_LOAD = "luigi --module pipeline LoadTripdata --taxi green --month 2019-01\n"
# The shell forks the commands, which takes a quarter of the time of starting them.
FORKED = "".join(
    f'{name}() {{ {sys.executable} -S {CHECKOUT}/tests/forked_command.py {name} "$@"; }}\n'
    for name in ("luigi", "pipeline")
)
# Replaces what depends on the test, and make targets that take long or run this test.
REPLACEMENTS = {
    "cat data/": 'cat "$PIPELINE__STORAGE__ROOT"/',
    "postgresql://taxi@localhost:5432/taxi": "$PIPELINE__POSTGRES__DSN",
    "make test": "make --dry-run test",
    "make demo": "make --dry-run demo",
    "make bench": "make --dry-run bench",
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, marks=[pytest.mark.models] if re.search("DbtBuild|Report|build", commands) else [], id=page.stem
        )
        for page in PAGES
        if (commands := "".join(SHELL_BLOCK.findall(page.read_text())))
    ],
)
def test_commands_of_page_succeed(
    page: Path, checkout: Path, tmp_path: Path, database: PostgresDatabase, request: pytest.FixtureRequest
) -> None:
    script = FORKED + FIRST_LOAD + "".join(SHELL_BLOCK.findall(page.read_text()))
    for command, replacement in REPLACEMENTS.items():
        script = script.replace(command, replacement)
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    if "SetupGcp" in script:
        environment |= request.getfixturevalue("google_cloud").environment
    releases = tmp_path / "releases"
    write_zones(releases)
    for taxi in ("green", "yellow"):
        dataset = dataset_named(taxi)
        for month in range(1, 13):
            write_month(dataset, datetime.date(2019, month, 1), 50, releases)
    write_month(dataset_named("green"), datetime.date(2024, 7, 1), 50, releases)

    done = subprocess.run(
        ["bash", "-e"],
        input=script,
        cwd=checkout,
        env=environment | settings(tmp_path, database, releases),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_linked_files_of_page_exist(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def test_example_of_a_new_dataset_is_valid_and_not_an_existing_one(tmp_path: Path) -> None:
    page = (CHECKOUT / "docs" / "new-dataset.md").read_text()
    file = tmp_path / "shuttle.yaml"
    file.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    dataset = read_spec(file)
    assert dataset.name not in all_datasets() and dataset.table not in {each.table for each in all_datasets().values()}
    assert write_month(dataset, datetime.date(2021, 1, 1), 10, tmp_path).is_file()


def test_every_setting_is_documented() -> None:
    text = (CHECKOUT / "docs" / "configuration.md").read_text()
    names = [name for section in Section.__subclasses__() for name, _ in section.get_params()]

    assert "base_url" in names
    assert [name for name in names if f"`{name}`" not in text] == []
