"""What is loaded into which warehouse and in which state, as data that can be printed as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from pipeline.datasets import Dataset, Release, all_datasets, format_month, parse_month
from pipeline.datasets.month_range import Months
from pipeline.errors import PipelineError
from pipeline.extract.availability import NewEditions
from pipeline.monitoring.run_logs import RunLogs, TaskRun, last_attempts
from pipeline.settings import ScheduleSettings, StorageSettings
from pipeline.targets import ReportPage, models_marker
from pipeline.warehouses import configured_warehouses, existing_warehouse, warehouse_named
from pipeline.warehouses.ledger import LedgerEntry

Entries = dict[str, list[LedgerEntry]]  # by warehouse


class State(StrEnum):
    """The state of a month."""

    LOADED = "loaded"
    MISSING = "missing"  # between loaded months
    FAILED = "failed"  # at the last attempt
    REPUBLISHED = "republished"  # since it was loaded, as found by a catch-up


def read_ledgers() -> tuple[Entries, PipelineError | None]:
    """Returns the ledgers of the configured warehouses, and the error if one could not be read.

    :raises PipelineError: if none could be read.
    """
    ledgers: Entries = {}
    problem = None
    for name in configured_warehouses():
        try:
            warehouse = existing_warehouse(name)
            ledgers[name] = list(warehouse.loaded()) if warehouse else []
        except PipelineError as error:
            problem = error
    if problem and not ledgers:
        raise problem
    return ledgers, problem


def loads(entries: Entries) -> list[dict[str, object]]:
    """Returns the fields of each entry, its warehouse, and whether its file was published again.

    `rows_missing` is how many of its duplicates no file has any more, None if they cannot be counted.
    """
    found: list[dict[str, object]] = []
    for name, of_warehouse in entries.items():
        republished = _republished(of_warehouse)
        missing = {release.key: rows for release, rows in rows_missing(name, of_warehouse).items()}
        found += [
            {
                "warehouse": name,
                **asdict(e),
                "seconds": e.seconds,
                "republished": e.partition_key in republished,
                "rows_missing": missing.get(e.partition_key, 0),
            }
            for e in of_warehouse
        ]
    return found


def rows_missing(warehouse: str, entries: list[LedgerEntry]) -> dict[Release, int | None]:
    """Returns how many duplicates of each file the other file does not have any more, for datasets with duplicates.

    None if they cannot be counted, for which a message is printed.
    """
    found: dict[Release, int | None] = {}
    names = {entry.dataset_name for entry in entries if entry.rows_duplicate}
    for dataset in (each for each in all_datasets().values() if each.name in names and each.is_monthly):
        releases = [Release(dataset, entry.month) for entry in entries if entry.dataset_name == dataset.name]
        try:
            by_file = warehouse_named(warehouse).orphaned_duplicates(dataset)
        except PipelineError as error:  # the ledger is readable, which is what matters
            print(error, file=sys.stderr)
            found |= dict.fromkeys(releases)
        else:
            found |= {release: by_file.get(release.filename, 0) for release in releases}
    return found


def overview(entries: Entries, dataset: Dataset | None, wanted: Months | None) -> dict[str, Any]:
    """Returns the states of months, models and reports, why months failed, and the number of rows in quarantine."""
    attempts = last_attempts(RunLogs(StorageSettings().logs_folder()).summaries(), entries)
    datasets = [each for each in ([dataset] if dataset else all_datasets().values()) if each.is_monthly]
    months: dict[str, dict[str, dict[str, State]]] = {}
    errors: dict[str, dict[str, str]] = {}
    for name, found in entries.items():
        failed = [task for (of, _), (_, task) in attempts.items() if of == name and task.status == "failed"]
        republished = _republished(found)
        states = {each.name: _month_states(each, found, republished, failed, wanted) for each in datasets}
        months[name] = {each: of_months for each, of_months in states.items() if of_months}
        errors[name] = {
            task.key: task.error
            for task in failed
            if months[name].get(task.dataset, {}).get(task.month) is State.FAILED
        }
    used = [name for name, found in entries.items() if found]
    current = {name: models_marker(name).exists() for name in used}
    return {
        "months": months,
        "errors": errors,
        "models_built": {name: current[name] or warehouse_named(name).last_build() is not None for name in used},
        "models_current": current,
        "report_written": {name: ReportPage(name).path.exists() for name in used},
        "report_current": {name: ReportPage(name).exists() for name in used},
        "rows_in_quarantine": {
            name: sum(entry.rows_duplicate + entry.rows_rejected for entry in found) for name, found in entries.items()
        },
    }


def _republished(entries: list[LedgerEntry]) -> set[str]:
    """Returns the keys of files that have been republished since they were loaded, as of the last catch-up."""
    seen = NewEditions(ScheduleSettings().folder()).read()
    found = [(entry, seen.get((entry.partition_key, entry.source))) for entry in entries]
    return {entry.partition_key for entry, edition in found if edition and entry.is_superseded_by(edition)}


def _month_states(
    dataset: Dataset, entries: list[LedgerEntry], republished: set[str], failed: list[TaskRun], wanted: Months | None
) -> dict[str, State]:
    """Returns the states of the wanted months, of those from the first to the last with a state, in order."""
    states = {parse_month(task.month): State.FAILED for task in failed if task.dataset == dataset.name}
    for entry in entries:
        if entry.month and entry.dataset_name == dataset.name:
            states[entry.month] = State.REPUBLISHED if entry.partition_key in republished else State.LOADED
    every = list(Months(min(states), max(states))) if states else []
    return {format_month(m): states.get(m, State.MISSING) for m in every if wanted is None or m in wanted}
