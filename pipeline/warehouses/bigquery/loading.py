"""Loads an object into BigQuery: wholly, once, with its ledger row; or not at all."""

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
from pipeline.warehouses.bigquery.ledger import LOCK, BigQueryEntry, ConcurrentUpdate, Plan, ensure_ledger, read_plan
from pipeline.warehouses.bigquery.markers import read_markers, remove_markers, write_marker
from pipeline.warehouses.bigquery.objects import find_object, remove_object
from pipeline.warehouses.bigquery.resources import table_is_there
from pipeline.warehouses.bigquery.staging import drop_staged, stage
from pipeline.warehouses.bigquery.tables import ensure_tables
from pipeline.warehouses.bigquery.transactions import forget_file, load_file

_TRIES = 40
_LONGEST_WAIT = 5.0

T = TypeVar("T")


def load(project: GoogleProject, job: LoadJob, observer: LoadObserver) -> BigQueryEntry:
    """Returns the file's ledger row once all of its rows are accounted for in BigQuery.

    The object goes into a staging table by one load job and from there into its table by one transaction, which puts
    the file's rows in the place of any that the file had there, sets aside what is duplicate, and writes the ledger
    row. Killed at any moment, the next call finds all of it or nothing. Two loads of one file share their jobs.

    :raises PipelineError: in which case the table holds what it held, or all of the file.
    """
    what = f"{job.release.key} was not loaded into BigQuery"
    with translate_errors(what), contextlib.closing(project.bigquery()) as client:

        def attempt() -> BigQueryEntry:
            prepare_ledger(client, project)
            ensure_tables(client, project, job.release.dataset)
            return _load(client, project, job, observer)

        entry = _until_alone(attempt, what)
    write_marker(project, entry)
    return entry


def forget(project: GoogleProject, release: Release) -> bool:
    """Removes a file's rows, quarantined ones too, its object and its markers; says whether there was any of them.

    The object goes first, so that no load begins meanwhile; one that has begun fails, or is removed with the rest.
    Killed on the way, the file is wholly there or wholly absent, and the next `forget` finishes it.

    :raises PipelineError: when something could not be removed.
    """
    what = f"{release.key} was not forgotten in BigQuery"
    removed = []
    with translate_errors(what), contextlib.closing(project.bigquery()) as client:

        def attempt() -> tuple[BigQueryEntry, ...]:
            prepare_ledger(client, project)
            removed.append(remove_object(project, release))
            plan = _plan(client, project, release)
            forget_file(client, project, release, plan)  # of nothing, too, which stops a load that is under way
            return plan.entries

        removed.append(bool(_until_alone(attempt, what)))
        removed.append(
            remove_markers(
                project, release.key, lambda: {entry.load_id for entry in _plan(client, project, release).entries}
            )
        )
    return any(removed)


def prepare_ledger(client: Client, project: GoogleProject) -> None:
    """Returns when the ledger is there, with what earlier versions noted in the bucket."""
    new = not table_is_there(client, project, project.table_id(LOCK))
    ensure_ledger(client, project, read_markers(project) if new else None)


def _load(client: Client, project: GoogleProject, job: LoadJob, observer: LoadObserver) -> BigQueryEntry:
    started_at = datetime.datetime.now(datetime.UTC)
    if found := _done(_plan(client, project, job.release), job):
        return found
    source = find_object(project, job.release)
    if source is None:
        raise PipelineError(f"gs://{project.bucket}/{job.release.filename} was removed before it was loaded; run again")
    staged = stage(client, project, job.release, source, observer)
    plan = _plan(client, project, job.release)  # anew: staging takes its time, and other loads change the token
    if found := _done(plan, job):
        return found
    load_file(client, project, job, source, staged, plan, started_at, observer)
    drop_staged(client, staged)
    entry = _plan(client, project, job.release).entry(job.task_family)
    if entry is None or not entry.finished_at:  # forgotten since
        raise ConcurrentUpdate
    return entry


def _plan(client: Client, project: GoogleProject, release: Release) -> Plan:
    plan = read_plan(client, project, release)
    if plan is None:
        raise ConcurrentUpdate
    return plan


def _done(plan: Plan, job: LoadJob) -> BigQueryEntry | None:
    """The ledger row of the job, where that is done. With `replace`, only this run's own work counts."""
    found = plan.entry(job.task_family)
    if found and found.finished_at and (not job.replace or found.run_id == job.run_id):
        return found
    return None


def _until_alone(attempt: Callable[[], T], what: str) -> T:
    """What the attempt returns, once no other load or forget comes between."""
    for number in range(_TRIES):
        try:
            return attempt()
        except ConcurrentUpdate:
            time.sleep(random.uniform(0, min(0.1 * 2**number, _LONGEST_WAIT)))
    raise TransientError(f"{what}: other loads keep coming first; run again when they have finished")
