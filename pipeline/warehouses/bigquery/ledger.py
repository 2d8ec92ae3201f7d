"""The ledger of loaded files in BigQuery: a table that is changed in the same transactions as the rows.

`load_ledger` has one row for each loaded file. `load_lock` has a single row that every transaction changes, so that
concurrent transactions conflict, and a transaction fails if another was committed after its snapshot of the ledger
(`take_lock`, `assert_lock`). The JSON objects under `_ledger/` in the bucket are copies of the ledger's rows that are
written after the commit, for users and targets.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from google.api_core import exceptions
from google.cloud.bigquery import Client, LoadJobConfig, SchemaField, Table

from pipeline.datasets import Release
from pipeline.datasets.spec import LEDGER
from pipeline.errors import TransientError
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import short_retry
from pipeline.warehouses.bigquery.jobs import REQUEST_SECONDS, query_config, run_job
from pipeline.warehouses.bigquery.resources import LABELS, check_location, check_table_missing, table_exists
from pipeline.warehouses.bigquery.sql_text import quoted, statement
from pipeline.warehouses.bigquery.tables import add_columns, ensure_table
from pipeline.warehouses.ledger import LedgerEntry

LOCK = "load_lock"
_LABELS = {"pipeline": "tlc", "step": "ledger"}
_JSON = ("days", "jobs")

Days = tuple[datetime.date | None, ...]


class ConcurrentUpdate(Exception):
    """Raised if the ledger or an object has changed since it was read; read it again."""


@dataclass(frozen=True)
class BigQueryEntry(LedgerEntry):
    """A file in BigQuery. `finished_at` is None for a load that an earlier version left unfinished.

    `load_id` identifies the transaction that wrote the entry, also in its copy in the bucket. `days` are the days that
    its rows may have; None stands for rows without a time.
    """

    object_uri: str = ""
    object_generation: int = 0
    load_id: str = ""
    days: Days = ()
    jobs: tuple[str, ...] = ()


COLUMNS: Mapping[str, str] = {
    field.name: "TIMESTAMP" if "datetime.datetime" in str(field.type) else "INT64" if field.type == "int" else "STRING"
    for field in fields(BigQueryEntry)
}


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
    """Returns the schema of `load_ledger`; days and jobs are JSON."""
    return [SchemaField(name, kind) for name, kind in COLUMNS.items()]


def ensure_ledger(client: Client, project: GoogleProject, markers: list[BigQueryEntry] | None = None) -> None:
    """Creates the ledger if it is missing; idempotent and safe to run concurrently.

    A new ledger imports `markers`, which earlier versions kept in the bucket.

    :raises PipelineError: if the dataset is missing or not in the configured location.
    """
    dataset = client.get_dataset(f"{project.project}.{project.dataset}", retry=short_retry(), timeout=REQUEST_SECONDS)
    check_location(project, f"dataset {project.dataset}", dataset.location)
    if table_exists(client, project, project.table_id(LOCK)):
        ledger = Table(project.table_id(LEDGER), ledger_fields())
        add_columns(client, ensure_table(client, project, ledger), ledger.schema)
        return
    _import_markers(client, project, f"{dataset.created:%Y%m%d%H%M%S%f}" if dataset.created else "", markers or [])
    create = statement("create_lock", lock=quoted(project.table_id(LOCK)), name=LEDGER)
    client.query_and_wait(create, job_config=query_config(project, _LABELS))


def _import_markers(client: Client, project: GoogleProject, created: str, markers: list[BigQueryEntry]) -> None:
    """Writes the markers to the ledger in a single load job; concurrent callers join it.

    The job's name is derived from the dataset's name and creation time.
    """
    text = io.StringIO()
    csv.writer(text).writerows(list(to_column_values(entry).values()) for entry in markers)
    config = LoadJobConfig(
        schema=ledger_fields(), write_disposition="WRITE_TRUNCATE", source_format="CSV", labels=LABELS
    )
    name = hashlib.sha256(f"{project.dataset} {created}".encode()).hexdigest()[:16]

    def submit(job_id: str) -> Any:
        return client.load_table_from_file(
            io.BytesIO(text.getvalue().encode()),
            project.table_id(LEDGER),
            job_id=job_id,
            job_config=config,
            timeout=REQUEST_SECONDS,
        )

    def has_columns() -> bool:
        try:
            found = client.get_table(project.table_id(LEDGER), timeout=REQUEST_SECONDS)
        except exceptions.NotFound:
            return False
        return COLUMNS.keys() <= {field.name for field in found.schema}

    run_job(client, f"tlc_ledger_{name}", "taking over the ledger", submit, LoadObserver(), has_columns)


def read_snapshot(client: Client, project: GoogleProject, release: Release) -> LedgerSnapshot | None:
    """Returns a consistent snapshot of the ledger's entries of a release, or None if there is no ledger yet.

    :raises PipelineError: if the ledger is not in the configured location.
    """
    query = statement(
        "select_snapshot",
        lock=quoted(project.table_id(LOCK)),
        ledger=quoted(project.table_id(LEDGER)),
        name=LEDGER,
        columns=", ".join(COLUMNS),
    )
    config = query_config(project, _LABELS, target_table=release.table, partition_key=release.key)
    rows = _rows(client, project, query, config)
    if rows is None:
        return None
    if not rows:
        raise TransientError(f"{project.table_id(LOCK)} is empty; remove it and run again")
    return LedgerSnapshot(rows[0]["token"], tuple(_entry(row) for row in rows if row["task_family"] is not None))


def read_loaded(client: Client, project: GoogleProject) -> list[BigQueryEntry] | None:
    """Returns the entries of all loaded files, ordered by table and month, or None if there is no ledger yet.

    :raises PipelineError: if the ledger is not in the configured location.
    """
    query = statement("select_loaded", ledger=quoted(project.table_id(LEDGER)), columns=", ".join(COLUMNS))
    if not table_exists(client, project, project.table_id(LOCK)):
        return None
    rows = _rows(client, project, query, query_config(project, _LABELS))
    return None if rows is None else [_entry(row) for row in rows]


def _rows(client: Client, project: GoogleProject, query: str, config: Any) -> list[Mapping[str, Any]] | None:
    try:
        return [dict(row) for row in client.query_and_wait(query, job_config=config)]
    except exceptions.NotFound:
        check_table_missing(client, project, project.table_id(LOCK))
        return None


def to_column_values(entry: BigQueryEntry) -> dict[str, Any]:
    """Returns an entry's column values, with days and jobs as JSON."""
    values = {name: getattr(entry, name) for name in COLUMNS}
    values |= {name: json.dumps(values[name], default=str) for name in _JSON}
    return {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value for name, value in values.items()
    }


def _entry(row: Mapping[str, Any]) -> BigQueryEntry:
    values = {name: row[name] for name in COLUMNS}
    kinds = {field.name: field.type for field in fields(BigQueryEntry)}
    for name, value in values.items():  # columns that were added later are NULL in older rows
        if value is None and kinds[name] in ("str", "int"):
            values[name] = "" if kinds[name] == "str" else 0
    values["days"] = tuple(day and datetime.date.fromisoformat(day) for day in json.loads(values["days"] or "[]"))
    values["jobs"] = tuple(json.loads(values["jobs"] or "[]"))
    return BigQueryEntry(**values)
