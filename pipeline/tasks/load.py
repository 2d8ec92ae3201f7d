"""Load: release files into PostgreSQL, each with its marker."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import luigi

from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile, remove_extracted
from pipeline.progress import Progress
from pipeline.settings import postgres, storage
from pipeline.targets import BigQueryMarker, PostgresMarker
from pipeline.tasks.extract import Extract, ExtractTripdata, ExtractZones
from pipeline.tasks.releases import ReleaseTask, TripdataTask, ZonesTask
from pipeline.tasks.task import PipelineTask
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres import ConnectionLost, LoadJob, load

logger = logging.getLogger("luigi-interface")

_WAITS_AFTER_LOST_CONNECTION = (1, 5, 15)


class LoadTask(ReleaseTask):
    """A task that loads a file into a warehouse, wholly or not at all; complete when its marker is in the ledger."""

    priority = 1  # before what is built from several loads

    force = luigi.BoolParameter(
        default=False, significant=False, description="extract and load again, in the place of what is loaded"
    )

    def output(self) -> PostgresMarker | BigQueryMarker:
        raise NotImplementedError

    def complete(self) -> bool:
        entry = self.output().entry()
        return entry is not None and (not self.force or entry.started_at >= self.asked_at)


class Load(LoadTask):
    """Loads an extracted file into PostgreSQL."""

    # How many run at a time over all workers is `[resources] postgres`.
    resources = {"postgres": 1}  # noqa: RUF012 - Luigi's own name and type

    @property
    def bad_rows_allowed(self) -> int:
        return 0

    def requires(self) -> Extract:
        raise NotImplementedError

    def output(self) -> PostgresMarker:
        return PostgresMarker(self.task_family, self.spec, self.release_month)

    def run(self) -> None:
        file = Path(self.input().path)
        facts = ExtractedFile.read(file)
        job = LoadJob(
            task_family=self.task_family,
            spec=self.spec,
            month=self.release_month,
            file=file,
            source_url=facts.source_url if facts else file.resolve().as_uri(),
            rows_expected=facts.rows if facts else None,
            max_bad_rows=self.bad_rows_allowed,
            replace=self.force,
        )
        try:
            with self.progress("load", "rows", "building the indexes") as progress:
                entry = self._load(job, progress)
        except FileNotFoundError as error:
            raise PipelineError(f"{error.filename} was removed before it was loaded; run again") from error
        tell_of_load(self, entry, ratio=facts.ratio if facts else 0.0)
        if not storage().keep_raw:
            remove_extracted(file)

    def _load(self, job: LoadJob, progress: Progress) -> LedgerEntry:
        for wait in _WAITS_AFTER_LOST_CONNECTION:
            try:
                return load(postgres().database(), job, progress)
            except ConnectionLost as error:
                logger.warning("%s; trying again in %s s", error, wait)
                time.sleep(wait)
        return load(postgres().database(), job, progress)


class LoadTripdata(TripdataTask, Load):
    """A month of trip records in its table, e.g. green_tripdata."""

    max_bad_rows = luigi.IntParameter(
        default=0,
        significant=False,
        description="how many malformed rows may be set aside in load_quarantine before the month fails",
    )

    @property
    def bad_rows_allowed(self) -> int:
        return int(self.max_bad_rows)

    def requires(self) -> Extract:
        return ExtractTripdata(taxi=self.taxi, month=self.month, force=self.force)


class LoadZones(ZonesTask, Load):
    """The taxi zones in taxi_zone_lookup."""

    def requires(self) -> Extract:
        return ExtractZones(force=self.force)


def tell_of_load(task: PipelineTask, entry: LedgerEntry, **facts: object) -> None:
    """Says in the log, with these facts, and on the task's page what came of a load."""
    rate = entry.rows_read / max(entry.seconds, 1e-3)
    message = (
        f"{entry.partition_key}: {entry.rows_loaded:,} rows loaded into {entry.target_table}"
        f" in {entry.seconds:.1f} s ({rate:,.0f} rows/s)"
    )
    if aside := entry.rows_duplicate + entry.rows_rejected:
        message += (
            f"; {aside:,} set aside in load_quarantine"
            f" ({entry.rows_duplicate:,} duplicate, {entry.rows_rejected:,} malformed)"
        )
    if entry.rows_loaded:
        logger.info(message)
    else:
        logger.warning("%s: no row of the file is new; is it the right month's? If not: `pipeline forget`", message)
    task.tell(
        message,
        rows=entry.rows_loaded,
        rows_duplicate=entry.rows_duplicate,
        rows_rejected=entry.rows_rejected,
        bytes=entry.source_bytes,
        **facts,
    )
