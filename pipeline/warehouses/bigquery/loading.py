"""Loads an object and its ledger row into BigQuery, exactly once and atomically."""

from __future__ import annotations

import datetime
import hashlib
import json
import random
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import TypeVar

from google.api_core import exceptions
from google.cloud.bigquery import Client
from google.cloud.bigquery.job import QueryJob

from pipeline.datasets import Dataset, Release
from pipeline.datasets.spec import QUARANTINE
from pipeline.errors import PipelineError, TransientError
from pipeline.warehouses import LoadJob, LoadObserver
from pipeline.warehouses.bigquery.client import REQUEST_SECONDS, GoogleProject
from pipeline.warehouses.bigquery.file_rows import FileRows
from pipeline.warehouses.bigquery.jobs import JobFailed, Value, job_labels, query_config, run_job, run_query
from pipeline.warehouses.bigquery.ledger import ConcurrentUpdate, LedgerSnapshot, ensure_ledger, read_snapshot
from pipeline.warehouses.bigquery.markers import (
    COLUMNS,
    BigQueryEntry,
    days_in_markers,
    read_marker,
    remove_markers,
    write_marker,
)
from pipeline.warehouses.bigquery.objects import ReleaseObject, find_object, remove_object
from pipeline.warehouses.bigquery.resources import dataset_exists
from pipeline.warehouses.bigquery.staging import StagedFile, drop_staged, sort_days, stage
from pipeline.warehouses.bigquery.tables import ensure_tables, find_table

_ATTEMPTS = 50
_LONGEST_WAIT = 15.0
# The message of assert_lock; those with which BigQuery cancels a transaction that conflicts with a concurrent change,
# or refuses one that follows others too fast; and that of a table that was deleted. Their reason may be that of the
# script: invalidQuery. https://cloud.google.com/bigquery/quotas#standard_tables,
# https://cloud.google.com/bigquery/docs/troubleshoot-queries
_OVERTAKEN = (
    "another load or forget came first",
    "aborted due to concurrent update",
    "Could not serialize access",
    "Exceeded rate limits",
    "Too many DML statements outstanding",
    "Not found: Table",
)

T = TypeVar("T")


def load(project: GoogleProject, job: LoadJob, observer: LoadObserver) -> BigQueryEntry:
    """Returns the file's ledger row once all of its rows are accounted for in BigQuery.

    A load job copies the object into a staging table. One transaction then replaces the file's rows in its table,
    quarantines duplicates and writes the ledger row. After a crash, the next call finds everything or nothing.
    Concurrent loads of one file share their jobs.

    :raises PipelineError: if the load fails; the table is unchanged or contains the complete file.
    """
    failure = f"{job.release.key} was not loaded into BigQuery"
    with project.connect_bigquery(failure) as client:
        entry = _retry_on_conflict(lambda: _load(client, project, job, observer), failure, observer)
    write_marker(project, entry)
    return entry


def forget(project: GoogleProject, release: Release) -> bool:
    """Removes a file's rows, quarantined rows, object and markers; returns whether there was anything.

    The object is removed first, so that no new load starts; a running load fails or is removed as well. After a crash,
    the file's rows are complete or absent, and the next `forget` removes the rest. Without the dataset, only the object
    is removed; copies of a ledger that is gone are of no effect.

    :raises PipelineError: if something could not be removed.
    """
    failure = f"{release.key} was not forgotten in BigQuery"
    removed = []
    with project.connect_bigquery(failure) as client:
        if not dataset_exists(client, project, project.dataset):
            return remove_object(project, release)

        def attempt() -> None:
            ensure_ledger(client, project)
            removed.append(remove_object(project, release))
            snapshot = _snapshot(client, project, release)
            _forget(client, project, release, snapshot)  # also without entries, because it makes a running load fail
            removed.append(bool(snapshot.entries))

        def current() -> set[str]:
            return {entry.load_id for entry in _snapshot(client, project, release).entries}

        _retry_on_conflict(attempt, failure, LoadObserver())
        removed.append(remove_markers(project, release.key, current))
    return any(removed)


def orphaned_duplicates(project: GoogleProject, dataset: Dataset) -> dict[str, int]:
    """Returns how many rows of each file were set aside for another file's rows, which were removed since.

    Like a load, compares only rows of equal days.
    """
    rows = FileRows(project, Release(dataset), ())
    config = query_config(project, job_labels(dataset, "", "duplicates"), target_table=dataset.table)
    with project.connect_bigquery(f"the duplicates in {dataset.table} were not counted") as client:
        try:
            days = [row["day"] for row in run_query(client, rows.duplicate_days_query(), config)]
            query = replace(rows, days=sort_days(days)).orphaned_duplicates_query()
            return dict(row.values() for row in run_query(client, query, config)) if days else {}
        except exceptions.NotFound:  # nothing of the dataset was loaded
            return {}


def _load(client: Client, project: GoogleProject, job: LoadJob, observer: LoadObserver) -> BigQueryEntry:
    ensure_ledger(client, project)
    ensure_tables(client, project, job.release.dataset)
    started_at = datetime.datetime.now(datetime.UTC)
    if found := _own_entry(_snapshot(client, project, job.release), job):
        return found
    source = find_object(project, job.release)
    if source is None:
        raise PipelineError(f"gs://{project.bucket}/{job.release.filename} was removed before it was loaded; run again")
    staged = stage(client, project, job.release, source, observer)
    snapshot = _snapshot(client, project, job.release)  # again, because the token may have changed during staging
    if found := _own_entry(snapshot, job):
        return found
    rows = FileRows(project, job.release, sort_days({*staged.days, *_loaded_days(project, job, snapshot)}))
    replacing_run = job.run_id if job.replace else ""
    load_id = _load_id(snapshot, job.task_family, source.uri, source.generation, staged.table_id, replacing_run)
    values = _entry_values(job, source, staged) | {"started_at": started_at, "load_id": load_id}
    _run(client, rows, "load", rows.load_script(staged), snapshot, values, observer)
    drop_staged(client, staged)
    entry = _snapshot(client, project, job.release).entry(job.task_family)
    if entry is None:  # forgotten in the meantime
        raise ConcurrentUpdate
    return entry


def _forget(client: Client, project: GoogleProject, release: Release, snapshot: LedgerSnapshot) -> None:
    rows = FileRows(project, release, sort_days(snapshot.days() or days_in_markers(project, release.key)))
    existing = {name for name in (release.table, QUARANTINE) if find_table(client, project, project.table_id(name))}
    values: dict[str, Value] = {"load_id": _load_id(snapshot, "forget", release.key)}
    _run(client, rows, "forget", rows.forget_script(existing), snapshot, values, LoadObserver())


def _loaded_days(project: GoogleProject, job: LoadJob, snapshot: LedgerSnapshot) -> Collection[datetime.date | None]:
    """Returns the days on which the release may have rows.

    They are those of the copy in the bucket if the ledger's row was deleted by hand, or is of a version without days.
    """
    if days := snapshot.days():
        return days
    marker = read_marker(project, job.task_family, job.release.key)
    return marker.days if marker else ()


def _snapshot(client: Client, project: GoogleProject, release: Release) -> LedgerSnapshot:
    snapshot = read_snapshot(client, project, release)
    if snapshot is None:
        raise ConcurrentUpdate
    return snapshot


def _own_entry(snapshot: LedgerSnapshot, job: LoadJob) -> BigQueryEntry | None:
    """Returns the job's ledger row, if there is one; with `replace`, only if this run has written it."""
    found = snapshot.entry(job.task_family)
    return found if found and (not job.replace or found.run_id == job.run_id) else None


def _entry_values(job: LoadJob, source: ReleaseObject, staged: StagedFile) -> dict[str, Value]:
    """Returns what is known of the file's ledger row before the transaction; some have equal names in the object."""
    return {name: value for name, value in asdict(source).items() if name in COLUMNS} | {
        "task_family": job.task_family,
        "rows_read": staged.rows,
        "rows_rejected": 0,
        "spec_version": job.release.dataset.version,
        "run_id": job.run_id,
        "object_uri": source.uri,
        "object_generation": source.generation,
        "days": json.dumps(staged.days, default=str),
        "jobs": staged.job_id,
    }


def _load_id(snapshot: LedgerSnapshot, *parts: object) -> str:
    """Returns the lock's new token: equal for all workers with the same snapshot, different for other snapshots."""
    return hashlib.sha256(" ".join(map(str, (snapshot.token, *parts))).encode()).hexdigest()[:32]


def _run(
    client: Client,
    rows: FileRows,
    step: str,
    script: str,
    snapshot: LedgerSnapshot,
    values: dict[str, Value],
    observer: LoadObserver,
) -> None:
    """Runs a transaction that changes nothing if the ledger has changed since the snapshot.

    Only the partitions of the rows' days are read and billed. Workers with the same snapshot and the same object share
    one job.

    :raises ConcurrentUpdate: if the ledger has changed or is being changed, or one of the tables was deleted.
    :raises PipelineError: with BigQuery's message; nothing has changed.
    """
    release, project = rows.release, rows.project
    values = rows.parameters | values | {"expected_token": snapshot.token}
    labels = job_labels(release.dataset, release.filename, step)

    def submit(job_id: str) -> QueryJob:
        jobs: dict[str, Value] = {"jobs": json.dumps([values["jobs"], job_id])} if "jobs" in values else {}
        config = query_config(project, labels, **values | jobs)
        return client.query(script, job_config=config, job_id=job_id, job_retry=None, timeout=REQUEST_SECONDS)

    try:
        name = f"tlc_{step}_{release.table}_{values['load_id']}"
        run_job(client, name, f"{step} {release.filename}", submit, observer)
    except exceptions.NotFound:
        find_table(client, project, project.table_id(release.table))  # raises if it is in another location
        raise ConcurrentUpdate from None
    except JobFailed as error:
        if error.reason == "notFound" or any(text in error.message for text in _OVERTAKEN):
            raise ConcurrentUpdate from None
        raise PipelineError(f"{release.filename}, {step}: {error}") from error


def _retry_on_conflict(attempt: Callable[[], T], failure: str, observer: LoadObserver) -> T:
    """Calls `attempt` until no concurrent load or forget interferes, and returns its result."""
    for number in range(_ATTEMPTS):
        try:
            return attempt()
        except ConcurrentUpdate:
            observer.set_status("waiting for another load or forget")
            time.sleep(random.uniform(0, min(0.1 * 2**number, _LONGEST_WAIT)))
    raise TransientError(f"{failure}: other loads keep interfering; run again when they have finished")
