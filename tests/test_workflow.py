"""What is run by others: the workflow keeps its schema, scripts keep shellcheck's rules, rights are as documented."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from conftest import BIN, CHECKOUT

WORKFLOW = CHECKOUT / ".github" / "workflows" / "tests.yml"
SCRIPT = CHECKOUT / "deploy" / "google-cloud" / "apply.sh"


def run(name: str, *arguments: object) -> None:
    checked = subprocess.run([BIN / name, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-workflows", WORKFLOW),
        ("custom.github-workflows-require-timeout", WORKFLOW),
        ("vendor.dependabot", CHECKOUT / ".github" / "dependabot.yml"),
    ],
)
def test_file_keeps_its_schema(schema: str, file: object) -> None:
    run("check-jsonschema", "--builtin-schema", schema, file)


def test_workflow_may_only_read_and_runs_what_make_test_runs() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())

    assert workflow["permissions"] == {"contents": "read"}
    assert {"run": "make test"} in workflow["jobs"]["test"]["steps"]
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert [action for action in used if not re.fullmatch(r"actions/[\w-]+@v\d+", action)] == []


@pytest.mark.parametrize(
    "script",
    [SCRIPT, CHECKOUT / ".ci" / "run", *(file for file in (CHECKOUT / "scripts").iterdir() if file.suffix != ".py")],
    ids=lambda path: path.name,
)
def test_script_keeps_shellchecks_rules(script: object) -> None:
    run("shellcheck", script)


def test_rights_on_google_cloud_are_those_of_the_page() -> None:
    given = set(re.findall(r"roles/[a-z]+\.\w+|(?<= )storage\.\w+(?=[ ;])", SCRIPT.read_text()))
    given = {role if role.startswith("roles/") else f"roles/{role}" for role in given}

    assert "roles/storage.objectUser" in given and "roles/run.invoker" in given
    assert given == set(re.findall(r"roles/[\w.]+", (CHECKOUT / "docs" / "deploy.md").read_text()))
