"""Loads an object into BigQuery: wholly, once, with its marker; or not at all."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.datasets import Dataset, Release
from pipeline.errors import PipelineError
from pipeline.warehouses import LoadJob, LoadObserver
from pipeline.warehouses.bigquery.client import GcpProject
from pipeline.warehouses.bigquery.google_errors import translate_errors
from pipeline.warehouses.bigquery.ledger import ConcurrentUpdate, GcpLedger, GcpLedgerEntry
from pipeline.warehouses.bigquery.merge import FileRows, Merger
from pipeline.warehouses.bigquery.objects import ReleaseObject, find_object, remove_object
from pipeline.warehouses.bigquery.staging import Days, StagedFile, drop_staged, in_order, stage
from pipeline.warehouses.bigquery.tables import ensure_tables

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

_TRIES = 5


def load(project: GcpProject, job: LoadJob, observer: LoadObserver) -> GcpLedgerEntry:
    """Returns the file's marker once all of its rows are accounted for in BigQuery.

    The object goes into a staging table by one load job and from there into its table by one MERGE, which puts the
    file's rows in the place of any that the file had there. Killed between any two steps, the next call goes on where
    this one was: jobs have names, and the unfinished marker says which. Two loads of one file share their jobs.

    :raises PipelineError: in which case the table holds what it held, or all of the file.
    """
    what = f"{job.release.key} was not loaded into BigQuery"
    with translate_errors(what), contextlib.closing(project.bigquery()) as client:
        for _ in range(_TRIES):
            ensure_tables(client, project, job.release.dataset)
            try:
                return _load(client, project, job, observer)
            except ConcurrentUpdate:
                continue
    raise PipelineError(f"{what}: other loads of it keep coming first; run again when they have finished")


def forget(project: GcpProject, release: Release) -> bool:
    """Removes a file's rows, quarantined ones too, its object and its markers; says whether there was any of them.

    Killed on the way, the next load or `forget` finishes it, as the marker is the last to go.

    :raises PipelineError: when something could not be removed.
    """
    ledger, key = GcpLedger(project), release.key
    try:
        found = ledger.of_file(key)
        entries = [ledger.write(_abandoned(entry)) for entry in found]
        with translate_errors(f"{key} was not forgotten in BigQuery"), contextlib.closing(project.bigquery()) as client:
            for before, entry in zip(found, entries, strict=True):
                merger = Merger(client, project, FileRows(release, entry.days), LoadObserver())
                merger.wait_for_jobs(before.claim)
                merger.delete_rows(entry.claim)
        was_there = remove_object(project, release.filename)
        for entry in entries:
            _conclude(ledger, entry, ledger.remove)
    except ConcurrentUpdate:
        raise PipelineError(f"{key} is being loaded into BigQuery right now; forget it when that is over") from None
    return was_there or bool(entries)


def _load(client: Client, project: GcpProject, job: LoadJob, observer: LoadObserver) -> GcpLedgerEntry:
    ledger, started_at = GcpLedger(project), datetime.datetime.now(datetime.UTC)
    found = ledger.find(job.task_family, job.release.key)
    if found and found.is_finished and (not job.replace or found.run_id == job.run_id):
        return found
    source = find_object(project, job.release.filename)
    if source is None:
        raise PipelineError(f"gs://{project.bucket}/{job.release.filename} was removed before it was loaded; run again")
    staged = stage(client, project, job.release, source, observer)
    entry = _claimed(ledger, job, source, staged, found, started_at)
    merger = Merger(client, project, FileRows(job.release, entry.days), observer)
    if found and not found.is_finished and found.claim != entry.claim:
        merger.wait_for_jobs(found.claim)
    merged, jobs = merger.merge(staged, entry.claim), [staged.job_id]
    jobs.append(merged.job_id)
    duplicates = staged.rows - merged.rows
    if job.release.dataset.is_monthly and (
        duplicates or found
    ):  # what an earlier edition left in the quarantine goes, too
        jobs.append(merger.quarantine_duplicates(staged, entry.claim, duplicates))
    finished = replace(
        entry,
        rows_loaded=merged.rows,
        rows_duplicate=duplicates,
        days=staged.days,
        jobs=tuple(jobs),
        finished_at=datetime.datetime.now(datetime.UTC),
    )
    _conclude(ledger, finished, ledger.write)
    drop_staged(client, staged)
    return finished


def _claimed(
    ledger: GcpLedger,
    job: LoadJob,
    source: ReleaseObject,
    staged: StagedFile,
    found: GcpLedgerEntry | None,
    started_at: datetime.datetime,
) -> GcpLedgerEntry:
    """The unfinished marker of this load, written before the table changes: it tells in which days a killed load may
    have left rows, and gives the jobs their names."""
    if (
        found
        and not found.is_finished
        and _is_of(found, job.release.dataset, source)
        and {*staged.days} <= {*found.days}
    ):
        return found
    days = {*staged.days, *(found.days if found else ())}
    return ledger.write(
        GcpLedgerEntry(
            task_family=job.task_family,
            partition_key=job.release.key,
            target_table=job.release.table,
            source_url=source.source_url,
            source_bytes=source.source_bytes,
            source_sha256=source.source_sha256,
            rows_read=staged.rows,
            rows_loaded=0,
            rows_duplicate=0,
            rows_rejected=0,
            spec_version=job.release.dataset.version,
            started_at=started_at,
            run_id=job.run_id,
            object_uri=source.uri,
            object_generation=source.generation,
            claim=_new_claim(),
            days=in_order(days),
            generation=found.generation if found else 0,
        )
    )


def _is_of(entry: GcpLedgerEntry, spec: Dataset, source: ReleaseObject) -> bool:
    return (entry.object_generation, entry.spec_version) == (source.generation, spec.version)


def _conclude(ledger: GcpLedger, entry: GcpLedgerEntry, say: Callable[[GcpLedgerEntry], object]) -> None:
    """Says the last word on a claim. When another load or `forget` took over meanwhile, ours may have changed the table
    after theirs did: then the marker says unfinished again, so that the file is loaded anew."""
    try:
        say(entry)
    except ConcurrentUpdate:
        now = ledger.find(entry.task_family, entry.partition_key)
        if now is None or now.claim != entry.claim:
            ledger.write(_abandoned(now or replace(entry, generation=0), entry.days))
        raise


def _abandoned(entry: GcpLedgerEntry, days: Days = ()) -> GcpLedgerEntry:
    """An unfinished marker of no object, so that no load goes on with it: the next begins anew, knowing the days."""
    days = in_order({*entry.days, *days})
    return replace(entry, finished_at=None, claim=_new_claim(), object_generation=0, days=days)


def _new_claim() -> str:
    return uuid.uuid4().hex
