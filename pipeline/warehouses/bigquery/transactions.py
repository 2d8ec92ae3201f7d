"""Transactions that change the rows of one file: its rows, the quarantine, the ledger and the lock, all or nothing."""

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
from pipeline.warehouses.bigquery.ledger import COLUMNS, LOCK, ConcurrentUpdate, Days, Plan
from pipeline.warehouses.bigquery.objects import ReleaseObject
from pipeline.warehouses.bigquery.resources import table_is_there
from pipeline.warehouses.bigquery.sql_text import (
    columns_of,
    key_text,
    on_days,
    quoted,
    row_text,
    staged_columns,
    statement,
)
from pipeline.warehouses.bigquery.staging import StagedFile, in_order

_OVERTAKEN = "another load or forget came first"  # as assert_lock has it
_BY_THE_TRANSACTION = ("rows_loaded", "rows_duplicate", "finished_at")


@dataclass(frozen=True)
class FileRows:
    """The rows of one file in its table, and the days in which they may lie."""

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
        """Which file the statements are about."""
        found: dict[str, Value] = {"target_table": self.release.table, "partition_key": self.release.key}
        return found | ({"filename": self.release.filename} if self.release.dataset.is_monthly else {})

    def on_days(self, table: str) -> str:
        return on_days(self.release.dataset, table, self.days)


def load_file(
    client: Client,
    project: GoogleProject,
    job: LoadJob,
    source: ReleaseObject,
    staged: StagedFile,
    plan: Plan,
    started_at: datetime.datetime,
    observer: LoadObserver,
) -> None:
    """Returns when the staged rows are in their table, in the place of those the file had there, with their ledger row.

    Only the partitions of its days are read and paid for. Two workers with the same plan and the same object share one
    job; one that was overtaken changes nothing.

    :raises ConcurrentUpdate: when the ledger is not as planned any more, or one of the tables is gone.
    :raises PipelineError: with BigQuery's message; everything is as it was.
    """
    rows = FileRows(project, job.release, in_order({*staged.days, *plan.days()}))
    asked_by = job.run_id if job.replace else ""
    load_id = _load_id(plan, job.task_family, source.uri, source.generation, staged.table_id, asked_by)
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
    _run(client, rows, "load", name, load_script(rows, staged), plan, values, observer)


def forget_file(client: Client, project: GoogleProject, release: Release, plan: Plan) -> None:
    """Returns when a file has no rows, quarantined ones neither, and no ledger row; tables that are gone need nothing.

    :raises ConcurrentUpdate: when the ledger is not as planned any more.
    """
    rows = FileRows(project, release, in_order(plan.days()))
    load_id = _load_id(plan, "forget", release.key)
    there = {name for name in (release.table, QUARANTINE) if table_is_there(client, project, project.table_id(name))}
    script = forget_script(rows, there)
    name = f"tlc_forget_{release.table}_{load_id}"
    _run(client, rows, "forget", name, script, plan, {"load_id": load_id}, LoadObserver())


def load_script(rows: FileRows, staged: StagedFile) -> str:
    """The transaction that loads a staged file."""
    spec = rows.release.dataset
    common = {"table": rows.table, "columns": columns_of(spec)}
    from_staging = {"staging": quoted(staged.table_id), "staged_columns": staged_columns(spec, staged.columns)}
    if not spec.is_monthly:
        insert = statement("insert_lookup", **common, **from_staging)
        return _transaction(rows, [_delete(rows), insert, *_entry(rows, "TRUE")])
    identified = statement(
        "identified_rows", columns=columns_of(spec), key_text=key_text(spec), row_text=row_text(spec), **from_staging
    )
    of_others = {"identified_rows": identified, "other_days": rows.on_days("other")}
    insert = statement("insert_file", **common, **of_others)
    duplicates = statement("insert_duplicates", quarantine=rows.quarantine, table=rows.table, **of_others)
    loaded_rows = f"loaded.filename = @filename AND {rows.on_days('loaded')}"
    return _transaction(
        rows,
        [
            _delete(rows),
            insert,
            *_entry(rows, loaded_rows),
            statement("delete_quarantined", quarantine=rows.quarantine),
            f"{statement('if_rows_are_left', ledger=rows.ledger)}\n{duplicates}",
            statement("end_if"),
            statement("assert_accounted", ledger=rows.ledger, quarantine=rows.quarantine),
        ],
    )


def forget_script(rows: FileRows, there: set[str]) -> str:
    """The transaction that removes a file from the tables that are there."""
    statements = [_delete(rows)] if rows.release.table in there else []
    if rows.release.dataset.is_monthly and QUARANTINE in there:
        statements.append(statement("delete_quarantined", quarantine=rows.quarantine))
    return _transaction(rows, [*statements, statement("delete_entry", ledger=rows.ledger)])


def _transaction(rows: FileRows, statements: list[str]) -> str:
    lock = quoted(rows.project.table_id(LOCK))
    locking = [statement("take_lock", lock=lock), statement("assert_lock", lock=lock)]
    return ";\n".join([statement("begin_transaction"), *locking, *statements, statement("commit_transaction")])


def _delete(rows: FileRows) -> str:
    if not rows.release.dataset.is_monthly:
        return statement("delete_lookup", table=rows.table)
    return statement("delete_file", table=rows.table, loaded_days=rows.on_days("loaded"))


def _entry(rows: FileRows, loaded_rows: str) -> list[str]:
    """The statements that put the file's ledger row in the place of any there was."""
    given = [name for name in COLUMNS if name not in _BY_THE_TRANSACTION]
    insert = statement(
        "insert_entry",
        ledger=rows.ledger,
        table=rows.table,
        columns=", ".join(given),
        values=", ".join(f"@{name}" for name in given),
        loaded_rows=loaded_rows,
    )
    return [statement("delete_entry", ledger=rows.ledger), insert]


def _load_id(plan: Plan, *parts: object) -> str:
    """The token that the transaction leaves in the lock: another for each plan, the same for all who have that plan."""
    return hashlib.sha256(" ".join(map(str, (plan.token, *parts))).encode()).hexdigest()[:32]


def _run(
    client: Client,
    rows: FileRows,
    step: str,
    name: str,
    script: str,
    plan: Plan,
    values: dict[str, Value],
    observer: LoadObserver,
) -> None:
    release, project = rows.release, rows.project
    values = rows.parameters | values | {"planned": plan.token}
    labels = job_labels(release.dataset, release.filename, step)

    def submit(job_id: str) -> QueryJob:
        jobs: dict[str, Value] = {"jobs": json.dumps([values["jobs"], job_id])} if "jobs" in values else {}
        config = query_config(project, labels, **values | jobs)
        return client.query(script, job_config=config, job_id=job_id, job_retry=None, timeout=REQUEST_SECONDS)

    try:
        run_job(client, name, f"{step} {release.filename}", submit, observer)
    except exceptions.NotFound:
        table_is_there(client, project, project.table_id(release.table))  # not in another location, at least
        raise ConcurrentUpdate from None
    except JobFailed as error:
        if _OVERTAKEN in error.message or error.reason == "notFound":
            raise ConcurrentUpdate from None
        raise PipelineError(f"{release.filename}, {step}: {error}") from error
