"""Tasks that load releases into warehouses.

A warehouse either loads the extracted file, as `LoadTripdata` does, or an uploaded object, which requires an `Upload`
task. Load tasks of additional registered warehouses are created at the end of this module.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import luigi

from pipeline.datasets import Dataset, format_month
from pipeline.datasets.month_range import Months
from pipeline.errors import PipelineError, counted
from pipeline.parameters import CountParameter, SourceParameter, option_name
from pipeline.targets import Lookup
from pipeline.tasks.base import ReleaseTask, TripdataTask, ZonesTask
from pipeline.tasks.extract import (
    Extract,
    ExtractTripdata,
    ExtractZones,
    load_job,
    register_reader,
    remove_after_last_read,
)
from pipeline.tasks.upload import Upload, UploadTripdata, UploadZones
from pipeline.warehouses import WAREHOUSES, LoadJob, LoadObserver, warehouse_info, warehouse_named
from pipeline.warehouses.ledger import LedgerEntry

logger = logging.getLogger("luigi-interface")


class Load(ReleaseTask):
    """Loads a release into a warehouse atomically; complete when its marker is in the ledger."""

    warehouse_name: ClassVar[str]
    requirement: ClassVar[type[Extract | Upload]]
    priority = 1  # before tasks that depend on several loads
    max_bad_rows = 0

    force = luigi.BoolParameter(
        default=False, significant=False, description="extract and load again, replacing what is loaded"
    )

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]  # Luigi accepts a property
        """What `[resources]` limits: concurrent loads into the warehouse."""
        return {self.warehouse_name: 1}

    def requires(self) -> luigi.Task:
        task = self.clone(self.requirement)
        return register_reader(self, task) if isinstance(task, Extract) else task

    def output(self) -> Lookup[LedgerEntry]:
        name = f"marker of {self.task_family} {self.release.key} in {self.warehouse_name}"
        return Lookup(name, lambda: warehouse_named(self.warehouse_name).find_load(self.task_family, self.release))

    def complete(self) -> bool:
        return self._is_done(self.output().find())

    @classmethod
    def complete_among(cls, tasks: Sequence[Load]) -> list[Load]:
        """Returns those of the tasks that are complete, from one reading of the ledger."""
        found = warehouse_named(cls.warehouse_name).find_loads(cls.get_task_family(), [task.release for task in tasks])
        return [task for task in tasks if task._is_done(found.get(task.release.key))]

    def _is_done(self, entry: LedgerEntry | None) -> bool:
        """:raises PipelineError: if the release is in a table that its dataset had before."""
        dataset = self.release.dataset
        if entry and entry.target_table != dataset.table:
            key, _, month = entry.partition_key.partition("/")
            raise PipelineError(
                f"{entry.partition_key} is in the table {entry.target_table}, and {dataset.spec_file} names"
                f" {dataset.table}; to move it, put the old name there again, run `pipeline forget"
                f" {key}{f' {month}' if month else ''}`, drop the old table, and then change the name"
            )
        return entry is not None and (not self.force or entry.run_id == self.run_id)

    def run(self) -> None:
        if warehouse_info(self.warehouse_name).loads_objects:
            job = LoadJob(self.task_family, self.release, self.run_id, self.force)
        else:
            job = load_job(self, Path(self.input().path), self.force, self.max_bad_rows)
        try:
            with self.progress("load", "rows", "building the indexes") as progress:
                observer = LoadObserver(progress, self.set_status, self.set_link)
                entry = warehouse_named(self.warehouse_name).load(job, observer)
        except FileNotFoundError as error:
            raise PipelineError(f"{error.filename} was removed before it was loaded; run again") from error
        self._log_load(entry, ratio=job.extracted.ratio)
        if job.file:
            remove_after_last_read(self, job.file)

    def _log_load(self, entry: LedgerEntry, **facts: object) -> None:
        """Logs and shows the result of the load, or that another run has just loaded the release."""
        if entry.run_id != self.run_id:
            self.log_status(
                f"{entry.partition_key}: another run has just loaded its {counted(entry.rows_loaded, 'row')}"
            )
            return
        if self.force:
            for warning in orphan_warnings(self.warehouse_name, self.release.dataset):
                logger.warning(warning)
        rate = entry.rows_read / max(entry.seconds, 1e-3)
        message = (
            f"{entry.partition_key}: {counted(entry.rows_loaded, 'row')} loaded into {entry.target_table}"
            f" in {entry.seconds:.1f} s ({rate:,.0f} rows/s)"
        )
        if quarantined := entry.rows_duplicate + entry.rows_rejected:
            message += (
                f"; {quarantined:,} set aside in load_quarantine"
                f" ({entry.rows_duplicate:,} duplicate, {entry.rows_rejected:,} malformed)"
            )
        if entry.rows_loaded:
            logger.info(message)
        else:
            logger.warning("%s: no row of the file is new; if it is the wrong file, run `pipeline forget`", message)
        self.set_status(
            message,
            rows=entry.rows_loaded,
            rows_duplicate=entry.rows_duplicate,
            rows_rejected=entry.rows_rejected,
            bytes=entry.source_bytes,
            **facts,
        )


class LoadTripdata(TripdataTask, Load):
    """A month of trip records in its table, e.g. green_tripdata."""

    warehouse_name, requirement = "postgres", ExtractTripdata

    source = SourceParameter()
    max_bad_rows = CountParameter(
        default=0,
        significant=False,
        description="how many malformed rows may be set aside in load_quarantine before the month fails",
    )


class LoadZones(ZonesTask, Load):
    """The taxi zones in taxi_zone_lookup."""

    warehouse_name, requirement = "postgres", ExtractZones


class LoadTripdataToBigQuery(TripdataTask, Load):
    """A month of trip records in its BigQuery table, e.g. green_tripdata."""

    warehouse_name, requirement = "bigquery", UploadTripdata

    source = SourceParameter()


class LoadZonesToBigQuery(ZonesTask, Load):
    """The taxi zones in BigQuery's taxi_zone_lookup."""

    warehouse_name, requirement = "bigquery", UploadZones


# The tasks that load a release, by warehouse.
LOAD_TRIPDATA: dict[str, type[Load]] = {"postgres": LoadTripdata, "bigquery": LoadTripdataToBigQuery}
LOAD_ZONES: dict[str, type[Load]] = {"postgres": LoadZones, "bigquery": LoadZonesToBigQuery}


def load_task(warehouse: str, dataset: Dataset) -> str:
    """Returns the name of the task that loads a release of a dataset into a warehouse."""
    return str((LOAD_TRIPDATA if dataset.is_monthly else LOAD_ZONES)[warehouse].get_task_family())


def load_arguments(
    warehouse: str, dataset: Dataset, months: Months | None, parameters: Mapping[str, object], workers: int = 1
) -> list[str]:
    """Returns the arguments for `luigi --module pipeline` that load months of a dataset into a warehouse.

    `months` is None for a dataset without months; `parameters` are others of the task, such as `force`.
    """
    task = load_task(warehouse, dataset)
    common = ["--workers", str(workers)] if workers > 1 else []
    if months is None or months.is_one:
        month = ["--taxi", dataset.name, "--month", str(months)] if months else []
        options = [word for name, value in parameters.items() for word in _option(name, value)]
        return [task, *month, *options, *common]
    of_params = json.dumps({"taxi": dataset.name, **parameters})
    span = ["--start", format_month(months.first), "--stop", format_month(months.stop)]
    return ["RangeMonthly", "--of", task, "--of-params", of_params, *span, *common]


def _option(name: str, value: object) -> list[str]:
    return [option_name(name)] if value is True else [option_name(name), str(value)]


def orphan_warnings(warehouse: str, dataset: Dataset) -> list[str]:
    """Returns a warning for each file with rows that were set aside for another file's rows, which were removed since.

    If they cannot be counted, returns a warning that says so, because the caller's own work does not depend on them.
    """
    if not dataset.is_monthly:
        return []
    try:
        missing = warehouse_named(warehouse).orphaned_duplicates(dataset)
    except PipelineError as error:
        return [str(error)]
    return [orphan_warning(warehouse, filename, rows) for filename, rows in missing.items()]


def orphan_warning(warehouse: str, filename: str, rows: int) -> str:
    """Returns the warning for one file."""
    title = warehouse_info(warehouse).title
    return (
        f"{filename}: {rows:,} rows are missing in {title}, because they were set aside as duplicates of another file's"
        " rows, which were removed since; load this file again with --force"
    )


_new_task: Any = type(Load)  # Luigi's metaclass, which registers the task


def _add_load_tasks(warehouse: str) -> None:
    """Creates the load tasks of a registered warehouse that has none above, such as LoadTripdataToDuckdb."""
    info = warehouse_info(warehouse)
    bases = (LoadTripdataToBigQuery, LoadZonesToBigQuery) if info.loads_objects else (LoadTripdata, LoadZones)
    for tasks, base, name in ((LOAD_TRIPDATA, bases[0], "Tripdata"), (LOAD_ZONES, bases[1], "Zones")):
        attributes: dict[str, Any] = {
            "__module__": __name__,
            "__doc__": f"{base.__doc__} ({info.title})",
            "warehouse_name": warehouse,
        }
        tasks[warehouse] = _new_task(f"Load{name}{info.load_suffix}", (base,), attributes)


for _warehouse in WAREHOUSES.keys() - LOAD_TRIPDATA.keys():
    _add_load_tasks(_warehouse)
