"""The workflow, scripts and roles on Google Cloud: schemas, shellcheck's rules, and what the docs say."""

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
def test_file_conforms_to_its_schema(schema: str, file: object) -> None:
    run("check-jsonschema", "--builtin-schema", schema, file)


def test_workflow_has_read_permission_only_and_runs_make_test() -> None:
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
def test_script_passes_shellcheck(script: object) -> None:
    run("shellcheck", script)


def test_granted_roles_on_google_cloud_are_the_documented_ones() -> None:
    granted = set(re.findall(r"roles/[a-z]+\.\w+|(?<= )storage\.\w+(?=[ ;])", SCRIPT.read_text()))
    granted = {role if role.startswith("roles/") else f"roles/{role}" for role in granted}

    assert "roles/storage.objectUser" in granted and "roles/run.invoker" in granted
    assert granted == set(re.findall(r"roles/[\w.]+", (CHECKOUT / "docs" / "deploy.md").read_text()))
