"""Loads an object into BigQuery: wholly, once, with its marker; or not at all."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.datasets import DatasetSpec
from pipeline.errors import PipelineError
from pipeline.warehouses.file_job import FileJob
from pipeline.warehouses.gcp.faults import explained
from pipeline.warehouses.gcp.jobs import JobObserver, unobserved
from pipeline.warehouses.gcp.ledger import GcpLedger, GcpLedgerEntry, Overtaken
from pipeline.warehouses.gcp.merging import FileRows, Merger
from pipeline.warehouses.gcp.objects import ReleaseObject, find_object, remove_object
from pipeline.warehouses.gcp.project import GcpProject
from pipeline.warehouses.gcp.schemas import ensure_tables
from pipeline.warehouses.gcp.staging import Days, StagedFile, drop_staged, in_order, stage

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

_TRIES = 5


@dataclass(frozen=True)
class GcpLoadJob(FileJob):
    """One object to load; with `since`, an entry that was begun earlier does not count."""

    since: datetime.datetime | None = None


def load(project: GcpProject, job: GcpLoadJob, observer: JobObserver) -> GcpLedgerEntry:
    """Returns the file's marker once all of its rows are accounted for in BigQuery.

    The object goes into a staging table by one load job and from there into its table by one MERGE, which puts the
    file's rows in the place of any that the file had there. Killed between any two steps, the next call goes on where
    this one was: jobs have names, and the unfinished marker says which. Two loads of one file share their jobs.

    :raises PipelineError: in which case the table holds what it held, or all of the file.
    """
    what = f"{job.partition_key} was not loaded into BigQuery"
    with explained(what), contextlib.closing(project.bigquery()) as client:
        for _ in range(_TRIES):
            ensure_tables(client, project, job.spec)
            try:
                return _load(client, project, job, observer)
            except Overtaken:
                continue
    raise PipelineError(f"{what}: other loads of it keep coming first; run again when they have finished")


def forget(project: GcpProject, spec: DatasetSpec, month: datetime.date | None) -> bool:
    """Removes a file's rows, quarantined ones too, its object and its markers; says whether there was any of them.

    Killed on the way, the next load or `forget` finishes it, as the marker is the last to go.

    :raises PipelineError: when something could not be removed.
    """
    ledger, key = GcpLedger(project), spec.partition_key(month)
    try:
        found = ledger.of_file(key)
        entries = [ledger.write(_abandoned(entry)) for entry in found]
        with explained(f"{key} was not forgotten in BigQuery"), contextlib.closing(project.bigquery()) as client:
            for before, entry in zip(found, entries, strict=True):
                merger = Merger(client, project, FileRows(spec, spec.filename(month), entry.days), unobserved)
                merger.settle(before.claim)
                merger.delete_rows(entry.claim)
        was_there = remove_object(project, spec.filename(month))
        for entry in entries:
            _conclude(ledger, entry, ledger.remove)
    except Overtaken:
        raise PipelineError(f"{key} is being loaded into BigQuery right now; forget it when that is over") from None
    return was_there or bool(entries)


def _load(client: Client, project: GcpProject, job: GcpLoadJob, observer: JobObserver) -> GcpLedgerEntry:
    ledger, started_at = GcpLedger(project), datetime.datetime.now(datetime.UTC)
    found = ledger.find(job.task_family, job.partition_key)
    if found and found.is_finished and (job.since is None or found.started_at >= job.since):
        return found
    source = find_object(project, job.filename)
    if source is None:
        raise PipelineError(f"gs://{project.bucket}/{job.filename} was removed before it was loaded; run again")
    staged = stage(client, project, job.spec, source, observer)
    entry = _claimed(ledger, job, source, staged, found, started_at)
    merger = Merger(client, project, FileRows(job.spec, job.filename, entry.days), observer)
    if found and not found.is_finished and found.claim != entry.claim:
        merger.settle(found.claim)
    merged, jobs = merger.merge(staged, entry.claim), [staged.job_id]
    jobs.append(merged.job_id)
    duplicates = staged.rows - merged.rows
    if job.spec.is_monthly and (duplicates or found):  # what an earlier edition left in the quarantine goes, too
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
    job: GcpLoadJob,
    source: ReleaseObject,
    staged: StagedFile,
    found: GcpLedgerEntry | None,
    started_at: datetime.datetime,
) -> GcpLedgerEntry:
    """The unfinished marker of this load, written before the table changes: it tells in which days a killed load may
    have left rows, and gives the jobs their names."""
    if found and not found.is_finished and _is_of(found, job.spec, source) and {*staged.days} <= {*found.days}:
        return found
    days = {*staged.days, *(found.days if found else ())}
    return ledger.write(
        GcpLedgerEntry(
            task_family=job.task_family,
            partition_key=job.partition_key,
            target_table=job.spec.table,
            source_url=source.source_url,
            source_bytes=source.source_bytes,
            source_sha256=source.source_sha256,
            rows_read=staged.rows,
            rows_loaded=0,
            rows_duplicate=0,
            rows_rejected=0,
            spec_version=job.spec.version,
            started_at=started_at,
            object_uri=source.uri,
            object_generation=source.generation,
            claim=_new_claim(),
            days=in_order(days),
            generation=found.generation if found else 0,
        )
    )


def _is_of(entry: GcpLedgerEntry, spec: DatasetSpec, source: ReleaseObject) -> bool:
    return (entry.object_generation, entry.spec_version) == (source.generation, spec.version)


def _conclude(ledger: GcpLedger, entry: GcpLedgerEntry, say: Callable[[GcpLedgerEntry], object]) -> None:
    """Says the last word on a claim. When another load or `forget` took over meanwhile, ours may have changed the table
    after theirs did: then the marker says unfinished again, so that the file is loaded anew."""
    try:
        say(entry)
    except Overtaken:
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
