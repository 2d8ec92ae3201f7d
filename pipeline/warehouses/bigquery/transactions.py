"""Composes and runs the transactions that load or forget a file: rows, quarantine, ledger and lock."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass

from google.api_core import exceptions
from google.cloud.bigquery import Client
from google.cloud.bigquery.job import QueryJob

from pipeline.datasets import Release
from pipeline.datasets.spec import LEDGER, QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses import LoadJob, LoadObserver
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.jobs import REQUEST_SECONDS, JobFailed, Value, job_labels, query_config, run_job
from pipeline.warehouses.bigquery.ledger import COLUMNS, LOCK, ConcurrentUpdate, Days, LedgerSnapshot
from pipeline.warehouses.bigquery.objects import ReleaseObject
from pipeline.warehouses.bigquery.resources import table_exists
from pipeline.warehouses.bigquery.sql_text import (
    column_list,
    days_condition,
    key_text,
    quoted,
    row_text,
    staged_columns,
    statement,
)
from pipeline.warehouses.bigquery.staging import StagedFile, sort_days

_LOCK_LOST = "another load or forget came first"  # the message of assert_lock
_SET_BY_TRANSACTION = ("rows_loaded", "rows_duplicate", "finished_at")


@dataclass(frozen=True)
class FileRows:
    """The rows of one file in its table, and the days that they may have."""

    project: GoogleProject
    release: Release
    days: Days

    @property
    def table(self) -> str:
        return quoted(self.project.table_id(self.release.table))

    @property
    def quarantine(self) -> str:
        return quoted(self.project.table_id(QUARANTINE))

    @property
    def ledger(self) -> str:
        return quoted(self.project.table_id(LEDGER))

    @property
    def parameters(self) -> dict[str, Value]:
        """The query parameters that identify the file."""
        found: dict[str, Value] = {"target_table": self.release.table, "partition_key": self.release.key}
        return found | ({"filename": self.release.filename} if self.release.dataset.is_monthly else {})

    def days_condition(self, table: str) -> str:
        return days_condition(self.release.dataset, table, self.days)


def load_file(
    client: Client,
    project: GoogleProject,
    job: LoadJob,
    source: ReleaseObject,
    staged: StagedFile,
    snapshot: LedgerSnapshot,
    started_at: datetime.datetime,
    observer: LoadObserver,
) -> None:
    """Replaces the file's rows in its table by the staged rows, and writes the ledger row.

    Only the partitions of its days are read and billed. Workers with the same snapshot and the same object share one
    job; a worker with an outdated snapshot changes nothing.

    :raises ConcurrentUpdate: if the ledger has changed since the snapshot, or one of the tables was deleted.
    :raises PipelineError: with BigQuery's message; nothing has changed.
    """
    rows = FileRows(project, job.release, sort_days({*staged.days, *snapshot.days()}))
    replacing_run = job.run_id if job.replace else ""
    load_id = _load_id(snapshot, job.task_family, source.uri, source.generation, staged.table_id, replacing_run)
    name = f"tlc_load_{job.release.table}_{load_id}"
    values: dict[str, Value] = {
        "task_family": job.task_family,
        "partition_key": job.release.key,
        "target_table": job.release.table,
        "source_url": source.source_url,
        "source_bytes": source.source_bytes,
        "source_sha256": source.source_sha256,
        "rows_read": staged.rows,
        "rows_rejected": 0,
        "spec_version": job.release.dataset.version,
        "started_at": started_at,
        "run_id": job.run_id,
        "source": source.source,
        "format": source.format,
        "etag": source.etag,
        "last_modified": source.last_modified,
        "object_uri": source.uri,
        "object_generation": source.generation,
        "load_id": load_id,
        "days": json.dumps(staged.days, default=str),
        "jobs": staged.job_id,
    }
    _run(client, rows, "load", name, load_script(rows, staged), snapshot, values, observer)


def forget_file(client: Client, project: GoogleProject, release: Release, snapshot: LedgerSnapshot) -> None:
    """Deletes a file's rows, quarantined rows and ledger row; skips tables that do not exist.

    :raises ConcurrentUpdate: if the ledger has changed since the snapshot.
    """
    rows = FileRows(project, release, sort_days(snapshot.days()))
    load_id = _load_id(snapshot, "forget", release.key)
    existing = {name for name in (release.table, QUARANTINE) if table_exists(client, project, project.table_id(name))}
    script = forget_script(rows, existing)
    name = f"tlc_forget_{release.table}_{load_id}"
    _run(client, rows, "forget", name, script, snapshot, {"load_id": load_id}, LoadObserver())


def load_script(rows: FileRows, staged: StagedFile) -> str:
    """Returns the transaction that loads a staged file."""
    spec = rows.release.dataset
    common = {"table": rows.table, "columns": column_list(spec)}
    from_staging = {"staging": quoted(staged.table_id), "staged_columns": staged_columns(spec, staged.columns)}
    if not spec.is_monthly:
        insert = statement("insert_lookup", **common, **from_staging)
        return _transaction(rows, [_delete(rows), insert, *_entry(rows, "TRUE")])
    rows_with_ids = statement(
        "identified_rows", columns=column_list(spec), key_text=key_text(spec), row_text=row_text(spec), **from_staging
    )
    parts = {"identified_rows": rows_with_ids, "other_days": rows.days_condition("other")}
    insert = statement("insert_file", **common, **parts)
    duplicates = statement("insert_duplicates", quarantine=rows.quarantine, table=rows.table, **parts)
    loaded_rows = f"loaded.filename = @filename AND {rows.days_condition('loaded')}"
    return _transaction(
        rows,
        [
            _delete(rows),
            insert,
            *_entry(rows, loaded_rows),
            statement("delete_quarantined", quarantine=rows.quarantine),
            f"{statement('if_duplicates', ledger=rows.ledger)}\n{duplicates}",
            statement("end_if"),
            statement("assert_accounted", ledger=rows.ledger, quarantine=rows.quarantine),
        ],
    )


def forget_script(rows: FileRows, existing: set[str]) -> str:
    """Returns the transaction that removes a file from the existing tables."""
    statements = [_delete(rows)] if rows.release.table in existing else []
    if rows.release.dataset.is_monthly and QUARANTINE in existing:
        statements.append(statement("delete_quarantined", quarantine=rows.quarantine))
    return _transaction(rows, [*statements, statement("delete_entry", ledger=rows.ledger)])


def _transaction(rows: FileRows, statements: list[str]) -> str:
    lock = quoted(rows.project.table_id(LOCK))
    locking = [statement("take_lock", lock=lock), statement("assert_lock", lock=lock)]
    return ";\n".join([statement("begin_transaction"), *locking, *statements, statement("commit_transaction")])


def _delete(rows: FileRows) -> str:
    if not rows.release.dataset.is_monthly:
        return statement("delete_lookup", table=rows.table)
    return statement("delete_file", table=rows.table, loaded_days=rows.days_condition("loaded"))


def _entry(rows: FileRows, loaded_rows: str) -> list[str]:
    """Returns the statements that replace the file's ledger row."""
    columns = [name for name in COLUMNS if name not in _SET_BY_TRANSACTION]
    insert = statement(
        "insert_entry",
        ledger=rows.ledger,
        table=rows.table,
        columns=", ".join(columns),
        values=", ".join(f"@{name}" for name in columns),
        loaded_rows=loaded_rows,
    )
    return [statement("delete_entry", ledger=rows.ledger), insert]


def _load_id(snapshot: LedgerSnapshot, *parts: object) -> str:
    """Returns the lock's new token: equal for all workers with the same snapshot, different for other snapshots."""
    return hashlib.sha256(" ".join(map(str, (snapshot.token, *parts))).encode()).hexdigest()[:32]


def _run(
    client: Client,
    rows: FileRows,
    step: str,
    name: str,
    script: str,
    snapshot: LedgerSnapshot,
    values: dict[str, Value],
    observer: LoadObserver,
) -> None:
    release, project = rows.release, rows.project
    values = rows.parameters | values | {"expected_token": snapshot.token}
    labels = job_labels(release.dataset, release.filename, step)

    def submit(job_id: str) -> QueryJob:
        jobs: dict[str, Value] = {"jobs": json.dumps([values["jobs"], job_id])} if "jobs" in values else {}
        config = query_config(project, labels, **values | jobs)
        return client.query(script, job_config=config, job_id=job_id, job_retry=None, timeout=REQUEST_SECONDS)

    try:
        run_job(client, name, f"{step} {release.filename}", submit, observer)
    except exceptions.NotFound:
        table_exists(client, project, project.table_id(release.table))  # raises if it is in another location
        raise ConcurrentUpdate from None
    except JobFailed as error:
        if _LOCK_LOST in error.message or error.reason == "notFound":
            raise ConcurrentUpdate from None
        raise PipelineError(f"{release.filename}, {step}: {error}") from error
