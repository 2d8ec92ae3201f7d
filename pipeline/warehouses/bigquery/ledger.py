"""The ledger of what is in BigQuery: a table that changes in the transactions which change the rows, and its copies.

`load_ledger` has a row a loaded file. `load_lock` has one row, which every transaction changes: two at once conflict,
and one that was planned before another was committed fails (`take_lock`, `assert_lock`). The JSON objects under
`_ledger/` in the bucket are copies of the ledger's rows, written afterwards, for people and for targets to see.
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
from pipeline.warehouses.bigquery.resources import LABELS, check_is_gone, check_location, table_is_there
from pipeline.warehouses.bigquery.sql_text import quoted, statement
from pipeline.warehouses.bigquery.tables import add_columns, ensure_table
from pipeline.warehouses.ledger import LedgerEntry

LOCK = "load_lock"
_LABELS = {"pipeline": "tlc", "step": "ledger"}
_JSON = ("days", "jobs")

Days = tuple[datetime.date | None, ...]


class ConcurrentUpdate(Exception):
    """What a load was planned against has changed: look again."""


@dataclass(frozen=True)
class BigQueryEntry(LedgerEntry):
    """A file in BigQuery; without `finished_at`, one whose load a version before this one left unfinished.

    `load_id` names the transaction that wrote it, and is in the marker's copy as well. `days` are those in which its
    rows may lie (None: rows without a time).
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
class Plan:
    """What the ledger says of a release, and the lock's token, which changes with whatever else it says."""

    token: str
    entries: tuple[BigQueryEntry, ...]

    def entry(self, task_family: str) -> BigQueryEntry | None:
        return next((entry for entry in self.entries if entry.task_family == task_family), None)

    def days(self) -> set[datetime.date | None]:
        """The days in which the release may have rows."""
        return {day for entry in self.entries for day in entry.days}


def ledger_fields() -> list[SchemaField]:
    """The columns of `load_ledger`; days and jobs are JSON."""
    return [SchemaField(name, kind) for name, kind in COLUMNS.items()]


def ensure_ledger(client: Client, project: GoogleProject, markers: list[BigQueryEntry] | None = None) -> None:
    """Returns when the ledger is there; harmless to repeat, or to run many times at once.

    The first time it takes over `markers`, those that versions before this one kept in the bucket.

    :raises PipelineError: when the dataset is missing, or in another location than the configured one.
    """
    dataset = client.get_dataset(f"{project.project}.{project.dataset}", retry=short_retry(), timeout=REQUEST_SECONDS)
    check_location(project, f"dataset {project.dataset}", dataset.location)
    if table_is_there(client, project, project.table_id(LOCK)):
        ledger = Table(project.table_id(LEDGER), ledger_fields())
        add_columns(client, ensure_table(client, project, ledger), ledger.schema)
        return
    _fill(client, project, f"{dataset.created:%Y%m%d%H%M%S%f}" if dataset.created else "", markers or [])
    create = statement("create_lock", lock=quoted(project.table_id(LOCK)), name=LEDGER)
    client.query_and_wait(create, job_config=query_config(project, _LABELS))


def _fill(client: Client, project: GoogleProject, created: str, markers: list[BigQueryEntry]) -> None:
    """Puts the markers into the ledger, in one load job a dataset: who comes second finds it done, and repeats nothing.

    Its name derives from the dataset's and the time when that was created.
    """
    text = io.StringIO()
    csv.writer(text).writerows(list(as_values(entry).values()) for entry in markers)
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

    def is_filled() -> bool:
        try:
            found = client.get_table(project.table_id(LEDGER), timeout=REQUEST_SECONDS)
        except exceptions.NotFound:
            return False
        return COLUMNS.keys() <= {field.name for field in found.schema}

    run_job(client, f"tlc_ledger_{name}", "taking over the ledger", submit, LoadObserver(), is_filled)


def read_plan(client: Client, project: GoogleProject, release: Release) -> Plan | None:
    """What the ledger says of a release at one moment; None where there is no ledger yet.

    :raises PipelineError: when it is in another location than the configured one.
    """
    query = statement(
        "select_plan",
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
    return Plan(rows[0]["token"], tuple(_entry(row) for row in rows if row["task_family"] is not None))


def read_finished(client: Client, project: GoogleProject) -> list[BigQueryEntry] | None:
    """The rows of every file that is loaded, by table and month; None where there is no ledger yet.

    :raises PipelineError: when it is in another location than the configured one.
    """
    query = statement("select_loaded", ledger=quoted(project.table_id(LEDGER)), columns=", ".join(COLUMNS))
    if not table_is_there(client, project, project.table_id(LOCK)):
        return None
    rows = _rows(client, project, query, query_config(project, _LABELS))
    return None if rows is None else [_entry(row) for row in rows]


def _rows(client: Client, project: GoogleProject, query: str, config: Any) -> list[Mapping[str, Any]] | None:
    try:
        return [dict(row) for row in client.query_and_wait(query, job_config=config)]
    except exceptions.NotFound:
        check_is_gone(client, project, project.table_id(LOCK))
        return None


def as_values(entry: BigQueryEntry) -> dict[str, Any]:
    """An entry as its columns' values, days and jobs as JSON."""
    values = {name: getattr(entry, name) for name in COLUMNS}
    values |= {name: json.dumps(values[name], default=str) for name in _JSON}
    return {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value for name, value in values.items()
    }


def _entry(row: Mapping[str, Any]) -> BigQueryEntry:
    values = {name: row[name] for name in COLUMNS}
    kinds = {field.name: field.type for field in fields(BigQueryEntry)}
    for name, value in values.items():  # columns that the ledger gained later are NULL in the rows of before
        if value is None and kinds[name] in ("str", "int"):
            values[name] = "" if kinds[name] == "str" else 0
    values["days"] = tuple(day and datetime.date.fromisoformat(day) for day in json.loads(values["days"] or "[]"))
    values["jobs"] = tuple(json.loads(values["jobs"] or "[]"))
    return BigQueryEntry(**values)
