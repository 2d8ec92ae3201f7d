"""The ledger of loaded files in BigQuery: a table that is changed in the same transactions as the rows.

`load_ledger` has one row for each loaded file. `load_lock` has a single row that every transaction changes, so that
concurrent transactions conflict, and a transaction fails if another was committed after its snapshot of the ledger
(`take_lock`, `assert_lock`). Copies of the rows are written to the bucket after the commit, for users and targets.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions
from google.cloud.bigquery import Client, LoadJobConfig, SchemaField, Table

from pipeline.datasets import Release
from pipeline.datasets.spec import LEDGER
from pipeline.errors import TransientError
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import REQUEST_SECONDS, GoogleProject
from pipeline.warehouses.bigquery.jobs import JobFailed, query_config, run_job, run_query
from pipeline.warehouses.bigquery.markers import COLUMNS, BigQueryEntry, entry_of, read_markers
from pipeline.warehouses.bigquery.resources import LABELS, get_dataset
from pipeline.warehouses.bigquery.sql_text import quoted, statement
from pipeline.warehouses.bigquery.tables import ensure_table, find_table, list_tables

LOCK = "load_lock"
_LABELS = {"pipeline": "tlc", "step": "ledger"}


class ConcurrentUpdate(Exception):
    """Raised if the ledger or an object has changed since it was read; read it again."""


@dataclass(frozen=True)
class LedgerSnapshot:
    """The ledger's entries of a release, and the lock's token, which every change of the ledger replaces."""

    token: str
    entries: tuple[BigQueryEntry, ...]

    def entry(self, task_family: str) -> BigQueryEntry | None:
        return next((entry for entry in self.entries if entry.task_family == task_family), None)

    def days(self) -> set[datetime.date | None]:
        """Returns the days on which the release may have rows."""
        return {day for entry in self.entries for day in entry.days}


def ledger_fields() -> list[SchemaField]:
    """Returns the schema of `load_ledger`."""
    return [SchemaField(name, kind) for name, kind in COLUMNS.items()]


def ensure_ledger(client: Client, project: GoogleProject) -> None:
    """Creates the ledger if it is missing; idempotent and safe to run concurrently.

    A ledger that replaces a deleted table is filled with the copies of the dataset's rows in the bucket.

    :raises PipelineError: if the dataset is missing or not in the configured location.
    """
    get_dataset(client, project, project.dataset)
    if find_table(client, project, project.table_id(LEDGER)) is None:
        _import_markers(client, project)
    ensure_table(client, project, Table(project.table_id(LEDGER), ledger_fields()))
    if find_table(client, project, project.table_id(LOCK)) is None:
        create = statement("create_lock", lock=quoted(project.table_id(LOCK)), name=LEDGER)
        with contextlib.suppress(exceptions.Conflict):  # created by another worker since IF NOT EXISTS was checked
            run_query(client, create, query_config(project, _LABELS))


def _import_markers(client: Client, project: GoogleProject) -> None:
    """Writes the dataset's markers to the missing ledger in a single load job; concurrent callers join it."""
    # The bucket also has the markers of datasets that were deleted, and of other datasets that use it.
    tables = {table.table_id for table in list_tables(client, project, project.dataset)}
    markers = [entry for entry in read_markers(project) if entry.target_table in tables]
    text = io.StringIO()
    header = list(COLUMNS)  # so that the file is never empty: BigQuery's endpoint for uploads may reject no bytes
    csv.writer(text).writerows([header, *map(_column_values, markers)])
    config = LoadJobConfig(
        schema=ledger_fields(),
        write_disposition="WRITE_EMPTY",  # another account, whose job cannot be joined, may have restored it
        source_format="CSV",
        skip_leading_rows=1,
        labels=LABELS,
    )
    table_id = project.table_id(LEDGER)

    def submit(job_id: str) -> Any:
        content = io.BytesIO(text.getvalue().encode())
        return client.load_table_from_file(content, table_id, job_id=job_id, job_config=config, timeout=REQUEST_SECONDS)

    def is_kept() -> bool:
        return find_table(client, project, table_id) is not None

    try:
        run_job(client, f"tlc_ledger_{project.dataset}", "restoring the ledger", submit, LoadObserver(), is_kept)
    except JobFailed as error:
        if error.reason != "duplicate":
            raise


def _column_values(entry: BigQueryEntry) -> list[Any]:
    values = {name: getattr(entry, name) for name in COLUMNS}
    values |= {name: json.dumps(values[name], default=str) for name in ("days", "jobs")}
    return list(values.values())


def read_snapshot(client: Client, project: GoogleProject, release: Release) -> LedgerSnapshot | None:
    """Returns a consistent snapshot of the ledger's entries of a release, or None if there is no ledger yet.

    :raises PipelineError: if the ledger is not in the configured location.
    """
    query = statement(
        "select_snapshot",
        lock=quoted(project.table_id(LOCK)),
        ledger=quoted(project.table_id(LEDGER)),
        name=LEDGER,
    )
    rows = _rows(client, project, query, target_table=release.table, partition_key=release.key)
    if rows is None:
        return None
    if not rows:
        raise TransientError(f"{project.table_id(LOCK)} is empty; remove it and run again")
    return LedgerSnapshot(rows[0]["token"], tuple(entry_of(row) for row in rows if row["task_family"] is not None))


def read_loaded(client: Client, project: GoogleProject) -> list[BigQueryEntry]:
    """Returns the entries of all loaded files, ordered by table and month.

    :raises PipelineError: if the ledger is not in the configured location.
    """
    query = statement("select_loaded", ledger=quoted(project.table_id(LEDGER)))
    return [entry_of(row) for row in _rows(client, project, query) or ()]


def _rows(client: Client, project: GoogleProject, query: str, **values: str) -> list[Mapping[str, Any]] | None:
    try:
        return [dict(row) for row in run_query(client, query, query_config(project, _LABELS, **values))]
    except exceptions.NotFound:
        if all(find_table(client, project, project.table_id(name)) for name in (LOCK, LEDGER)):
            ledger = project.table_id(LEDGER)
            raise TransientError(f"BigQuery did not find {ledger}, although it exists; run again") from None
        return None
