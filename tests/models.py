"""Loads releases, builds the models in a test's own schema, and reads the marts."""

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
from pipeline.transform import DbtCommand, build, dbt_process
from pipeline.transform.dbt_process import NodeResult
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load
from pipeline.warehouses.postgres.warehouse import PostgresWarehouse

VARIABLES = {"known_vendors_only": False}


def load_release(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, name: str, month: datetime.date | None = JANUARY
) -> None:
    """Loads a month, or the only file of the dataset, and replaces what is loaded of it."""
    dataset = dataset_named(name)
    job = job_for(dataset, mirror, tmp_path, month if dataset.is_monthly else None, replace=True)
    load(database, job if dataset.is_monthly else replace(job, task_family="LoadZones"), silent)


def build_models(database: PostgresDatabase, folder: Path, **options: Any) -> dict[str, NodeResult]:
    """Builds the models in the schema of the loaded tables; returns the result of each node by name.

    dbt runs in this process, so that its imports, which take longer than such a build, are done once for many builds.
    """
    variables = options.pop("variables", VARIABLES)
    models = PostgresWarehouse(database, database.schema, dbt_threads=4)
    with mock.patch.object(dbt_process, "_started", _call_dbt):
        results = build(models, DbtCommand(**options), variables, folder, lambda line: None)
    return {result.name: result for result in results}


@contextlib.contextmanager
def _call_dbt(warehouse: str, arguments: list[str], environment: dict[str, str]) -> Iterator[SimpleNamespace]:
    """The output and exit code of dbt's process, from a call of the function that the process would call."""
    from dbt.adapters.base import impl
    from dbt.cli.main import cli

    output, code = io.StringIO(), 0
    environment = environment | {"DBT_LOG_LEVEL_FILE": "none"}  # writing the log file takes long
    flags = impl.DEFAULT_BASE_BEHAVIOR_FLAGS  # to which each call appends, and each flag takes longer than the last
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(impl, "DEFAULT_BASE_BEHAVIOR_FLAGS", flags[:]),
        contextlib.redirect_stdout(output),
    ):
        try:
            cli(["--log-format", "json", "--no-use-colors", *arguments], prog_name="dbt")
        except SystemExit as end:
            code = int(end.code or 0)
    yield SimpleNamespace(stdout=output.getvalue().splitlines(), returncode=code)


def mart_rows(database: PostgresDatabase, name: str) -> list[tuple[Any, ...]]:
    return execute(database, f"SELECT * FROM {name} ORDER BY {MARTS[name]}")


def columns(database: PostgresDatabase, name: str) -> list[str]:
    query = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    return [column for (column,) in execute(database, query, name)]
