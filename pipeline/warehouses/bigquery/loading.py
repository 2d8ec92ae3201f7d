"""Loads an object and its ledger row into BigQuery, exactly once and atomically."""

from __future__ import annotations

import contextlib
import datetime
import random
import time
from collections.abc import Callable
from typing import TypeVar

from google.cloud.bigquery import Client

from pipeline.datasets import Release
from pipeline.errors import PipelineError, TransientError
from pipeline.warehouses import LoadJob, LoadObserver
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import translate_errors
from pipeline.warehouses.bigquery.ledger import (
    LOCK,
    BigQueryEntry,
    ConcurrentUpdate,
    LedgerSnapshot,
    ensure_ledger,
    read_snapshot,
)
from pipeline.warehouses.bigquery.markers import read_markers, remove_markers, write_marker
from pipeline.warehouses.bigquery.objects import find_object, remove_object
from pipeline.warehouses.bigquery.resources import table_exists
from pipeline.warehouses.bigquery.staging import drop_staged, stage
from pipeline.warehouses.bigquery.tables import ensure_tables
from pipeline.warehouses.bigquery.transactions import forget_file, load_file

_ATTEMPTS = 40
_LONGEST_WAIT = 5.0

T = TypeVar("T")


def load(project: GoogleProject, job: LoadJob, observer: LoadObserver) -> BigQueryEntry:
    """Returns the file's ledger row once all of its rows are accounted for in BigQuery.

    A load job copies the object into a staging table. One transaction then replaces the file's rows in its table,
    quarantines duplicates and writes the ledger row. After a crash, the next call finds everything or nothing.
    Concurrent loads of one file share their jobs.

    :raises PipelineError: if the load fails; the table is unchanged or contains the complete file.
    """
    failure = f"{job.release.key} was not loaded into BigQuery"
    with translate_errors(failure), contextlib.closing(project.bigquery()) as client:

        def attempt() -> BigQueryEntry:
            prepare_ledger(client, project)
            ensure_tables(client, project, job.release.dataset)
            return _load(client, project, job, observer)

        entry = _retry_on_conflict(attempt, failure)
    write_marker(project, entry)
    return entry


def forget(project: GoogleProject, release: Release) -> bool:
    """Removes a file's rows, quarantined rows, object and markers; returns whether there was anything.

    The object is removed first, so that no new load starts; a running load fails or is removed as well. After a crash,
    the file's rows are complete or absent, and the next `forget` removes the rest.

    :raises PipelineError: if something could not be removed.
    """
    failure = f"{release.key} was not forgotten in BigQuery"
    removed = []
    with translate_errors(failure), contextlib.closing(project.bigquery()) as client:

        def attempt() -> tuple[BigQueryEntry, ...]:
            prepare_ledger(client, project)
            removed.append(remove_object(project, release))
            snapshot = _snapshot(client, project, release)
            forget_file(client, project, release, snapshot)  # also without entries, as it makes a running load fail
            return snapshot.entries

        removed.append(bool(_retry_on_conflict(attempt, failure)))
        removed.append(
            remove_markers(
                project, release.key, lambda: {entry.load_id for entry in _snapshot(client, project, release).entries}
            )
        )
    return any(removed)


def prepare_ledger(client: Client, project: GoogleProject) -> None:
    """Creates the ledger if it is missing and imports the markers of earlier versions into it."""
    new = not table_exists(client, project, project.table_id(LOCK))
    ensure_ledger(client, project, read_markers(project) if new else None)


def _load(client: Client, project: GoogleProject, job: LoadJob, observer: LoadObserver) -> BigQueryEntry:
    started_at = datetime.datetime.now(datetime.UTC)
    if found := _finished_entry(_snapshot(client, project, job.release), job):
        return found
    source = find_object(project, job.release)
    if source is None:
        raise PipelineError(f"gs://{project.bucket}/{job.release.filename} was removed before it was loaded; run again")
    staged = stage(client, project, job.release, source, observer)
    snapshot = _snapshot(client, project, job.release)  # again, as the token may have changed during staging
    if found := _finished_entry(snapshot, job):
        return found
    load_file(client, project, job, source, staged, snapshot, started_at, observer)
    drop_staged(client, staged)
    entry = _snapshot(client, project, job.release).entry(job.task_family)
    if entry is None or not entry.finished_at:  # forgotten in the meantime
        raise ConcurrentUpdate
    return entry


def _snapshot(client: Client, project: GoogleProject, release: Release) -> LedgerSnapshot:
    snapshot = read_snapshot(client, project, release)
    if snapshot is None:
        raise ConcurrentUpdate
    return snapshot


def _finished_entry(snapshot: LedgerSnapshot, job: LoadJob) -> BigQueryEntry | None:
    """Returns the job's ledger row if it is finished; with `replace`, only if this run has written it."""
    found = snapshot.entry(job.task_family)
    if found and found.finished_at and (not job.replace or found.run_id == job.run_id):
        return found
    return None


def _retry_on_conflict(attempt: Callable[[], T], failure: str) -> T:
    """Calls `attempt` until no concurrent load or forget interferes, and returns its result."""
    for number in range(_ATTEMPTS):
        try:
            return attempt()
        except ConcurrentUpdate:
            time.sleep(random.uniform(0, min(0.1 * 2**number, _LONGEST_WAIT)))
    raise TransientError(f"{failure}: other loads keep interfering; run again when they have finished")
