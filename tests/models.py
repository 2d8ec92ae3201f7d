"""Models built in a test's own schema: what is loaded first, the building, and what the marts then hold."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from conftest import JANUARY, execute, job_for
from golden_releases import MARTS

from pipeline.datasets import dataset_named
from pipeline.progress import silent
from pipeline.transform import dbt_process
from pipeline.transform.build import DbtCommand, build
from pipeline.transform.dbt_process import NodeResult
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load
from pipeline.warehouses.postgres.warehouse import PostgresWarehouse

VARIABLES = {"known_vendors_only": False}


def load_release(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, dataset: str, month: datetime.date | None = JANUARY
) -> None:
    """Loads a month, or the one file that the dataset is, in the place of any that is loaded."""
    spec = dataset_named(dataset)
    job = job_for(spec, mirror, tmp_path, month if spec.is_monthly else None, replace=True)
    load(database, job if spec.is_monthly else replace(job, task_family="LoadZones"), silent)


def build_models(database: PostgresDatabase, folder: Path, **options: Any) -> dict[str, NodeResult]:
    """Builds the models beside what they are made from; returns what became of each node.

    By dbt in this process: its imports, which take longer than such a build, are then done once for many builds.
    """
    variables = options.pop("variables", VARIABLES)
    models = PostgresWarehouse(database, database.schema, dbt_threads=4)
    with mock.patch.object(dbt_process, "_started", _called):
        results = build(models, DbtCommand(**options), variables, folder, lambda line: None)
    return {result.name: result for result in results}


@contextlib.contextmanager
def _called(warehouse: str, arguments: list[str], environment: dict[str, str]) -> Iterator[SimpleNamespace]:
    """What the process of dbt says and returns, from the function that it calls."""
    from dbt.cli.main import cli

    said, code = io.StringIO(), 0
    environment = environment | {"DBT_LOG_LEVEL_FILE": "none"}  # which takes long
    with mock.patch.dict(os.environ, environment, clear=True), contextlib.redirect_stdout(said):
        try:
            cli(["--log-format", "json", "--no-use-colors", *arguments], prog_name="dbt")
        except SystemExit as end:
            code = int(end.code or 0)
    yield SimpleNamespace(stdout=said.getvalue().splitlines(), returncode=code)


def mart(database: PostgresDatabase, name: str) -> list[tuple[Any, ...]]:
    return execute(database, f"SELECT * FROM {name} ORDER BY {MARTS[name]}")


def columns(database: PostgresDatabase, name: str) -> list[str]:
    query = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    return [column for (column,) in execute(database, query, name)]
