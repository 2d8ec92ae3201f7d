"""`pipeline status`: what is in the warehouses, for people and for programs."""

from __future__ import annotations

import datetime
import io
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets import Release, all_datasets, dataset_named, format_month
from pipeline.errors import PipelineError
from pipeline.extract.editions import NewEditions
from pipeline.monitoring.overview import State, failed_releases, month_states
from pipeline.settings import ScheduleSettings, StorageSettings
from pipeline.targets import ModelsMarker, ReportPage
from pipeline.warehouses import configured_warehouses, warehouse_info, warehouse_named
from pipeline.warehouses.ledger import LedgerEntry

if TYPE_CHECKING:
    from rich.table import Table

_NARROWEST = 130
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MARKS = {"": " ", State.LOADED: "+", State.MISSING: "-", State.FAILED: "!", State.REPUBLISHED: "*"}

Entries = dict[str, list[LedgerEntry]]


def run(taxi: str | None, month: datetime.date | None, as_json: bool, grid: bool) -> int:
    """Prints the files that are loaded, those of one dataset or month if asked; a lone one with how to look at it.

    :raises PipelineError: after it, when a warehouse that is configured could not be asked.
    """
    ledgers, problem = _ledgers()
    entries = {name: [e for e in ledger if _is_wanted(e, taxi, month)] for name, ledger in ledgers.items()}
    if as_json and grid:
        print(json.dumps(_overview(entries), default=str, indent=2))
    elif as_json:
        print(json.dumps(_loads(entries), default=str, indent=2))
    elif not any(entries.values()):
        print(_nothing(taxi, month))
    else:
        if not grid:
            _print_table(entries)
            _print_summary(entries)
        if grid or (taxi, month) == (None, None):
            _print_overview(_overview(entries))
    if problem:
        raise problem
    return 0


def _loads(entries: Entries) -> list[dict[str, object]]:
    loads: list[dict[str, object]] = []
    for name, found in entries.items():
        again = _republished(found)
        loads += [
            {"warehouse": name, **asdict(e), "seconds": e.seconds, "republished": e.partition_key in again}
            for e in found
        ]
    return loads


def _overview(entries: Entries) -> dict[str, Any]:
    """All that there is to say: the loads, each month's state, whether models and report are current, what is aside."""
    failed = failed_releases(StorageSettings().folder("logs"))
    months: dict[str, dict[str, dict[str, str]]] = {}
    for name, found in entries.items():
        loaded, again = {entry.partition_key for entry in found}, _republished(found)
        states = {
            spec.name: month_states(spec, loaded, again, failed) for spec in all_datasets().values() if spec.is_monthly
        }
        months[name] = {
            dataset: {format_month(month): str(state) for month, state in of_months.items()}
            for dataset, of_months in states.items()
            if of_months
        }
    return {
        "loads": _loads(entries),
        "months": months,
        "models_current": {name: ModelsMarker(name).exists() for name, found in entries.items() if found},
        "report_current": {name: ReportPage(name).exists() for name, found in entries.items() if found},
        "rows_in_quarantine": {
            name: sum(entry.rows_duplicate + entry.rows_rejected for entry in found) for name, found in entries.items()
        },
    }


def _republished(entries: list[LedgerEntry]) -> set[str]:
    """The keys of what its source has published again since, as the last catch-up has seen it."""
    seen = NewEditions(ScheduleSettings().folder()).read()
    found = [(entry, seen.get((entry.partition_key, entry.source))) for entry in entries]
    return {
        entry.partition_key
        for entry, edition in found
        if edition and edition.is_other_than(entry.etag, entry.last_modified, entry.source_bytes)
    }


def _print_overview(overview: dict[str, Any]) -> None:
    """A line a year of a dataset, a column a month; and the rest in a line a warehouse."""
    for name, datasets in overview["months"].items():
        if not datasets:
            continue
        print(f"\n{warehouse_info(name).title:<16}{' '.join(_MONTHS)}")
        for dataset, states in datasets.items():
            for year in sorted({month[:4] for month in states}):
                marks = [_MARKS[states.get(f"{year}-{month:02}", "")] for month in range(1, 13)]
                print(f"{dataset:<10} {year}  {'   '.join(marks)}".rstrip())
        current = {True: "current", False: "out of date"}
        models, report = overview["models_current"].get(name, False), overview["report_current"].get(name, False)
        aside = overview["rows_in_quarantine"][name]
        print(f"models: {current[models]}; report: {current[report]}; rows in quarantine: {aside:,}")
    if any(overview["months"].values()):
        print("(+ loaded, - missing in between, ! failed, * published again since)")


def _nothing(taxi: str | None, month: datetime.date | None) -> str:
    wanted = [taxi or "", format_month(month) if month else ""]
    of_that = " of " + " ".join(filter(None, wanted)) if any(wanted) else ""
    task = "LoadZones" if taxi and not dataset_named(taxi).is_monthly else "LoadTripdata"
    options = f" --taxi {wanted[0] or 'green'} --month {wanted[1] or '2019-01'}" if task == "LoadTripdata" else ""
    return f"Nothing{of_that} is loaded. To begin: luigi --module pipeline {task}{options}"


def _ledgers() -> tuple[Entries, PipelineError | None]:
    """What each warehouse holds that is configured, and why one of them could not be asked."""
    ledgers: Entries = {}
    problem = None
    for name in configured_warehouses():
        if not warehouse_info(name).exists():
            ledgers[name] = []
            continue
        try:
            ledgers[name] = list(warehouse_named(name).loaded())
        except PipelineError as error:
            problem = error
    if problem and not ledgers:
        raise problem
    return ledgers, problem


def _is_wanted(entry: LedgerEntry, taxi: str | None, month: datetime.date | None) -> bool:
    if taxi is None:
        return month is None or entry.partition_key.endswith(f"/{month:%Y-%m}")
    if month is None:
        return entry.target_table == dataset_named(taxi).table
    return entry.partition_key == Release(dataset_named(taxi), month).key


def _print_table(entries: Entries) -> None:
    from rich.console import Console

    table = _table(entries)
    # A narrow terminal wraps lines rather than lose a name; piped, a row is a line whatever its width.
    terminal = Console()
    if terminal.is_terminal:
        Console(width=max(terminal.width, _NARROWEST)).print(table)
    else:
        text = io.StringIO()
        Console(file=text, width=1000).print(table)
        print("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def _table(entries: Entries) -> Table:
    """A row a file; what is told of each warehouse stands side by side when there are two."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("what", "table"):
        table.add_column(name, no_wrap=True)
    for warehouse in entries:
        in_which = f"{warehouse_info(warehouse).title} " if len(entries) > 1 else ""
        for name in (f"{in_which}rows", "duplicate", "rejected", "seconds"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("loaded at", no_wrap=True)
    table.add_column("from", overflow="fold")
    files = {(e.target_table, e.partition_key): e.source_url for found in entries.values() for e in found}
    for (target, key), source in sorted(files.items()):
        cells = [cell for found in entries.values() for cell in _cells(found, key)]
        table.add_row(key, target, *cells, source)
    return table


def _cells(entries: list[LedgerEntry], key: str) -> list[str]:
    for entry in entries:
        if entry.partition_key == key:
            counts = [f"{n:,}" for n in (entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected)]
            when = f"{entry.finished_at.astimezone():%Y-%m-%d %H:%M}" if entry.finished_at else ""
            return [*counts, f"{entry.seconds:.1f}", when]
    return ["-", "", "", "", ""]


def _print_summary(entries: Entries) -> None:
    """How to look at a lone file's rows."""
    if len({entry.partition_key for found in entries.values() for entry in found}) > 1:
        return
    for warehouse, found in entries.items():
        for entry in found:
            where = f" in {warehouse_info(warehouse).title}" if len(entries) > 1 else ""
            rate = entry.rows_read / max(entry.seconds, 1e-3)
            print(
                f"\n{entry.rows_loaded:,} rows{where} in {entry.seconds:.1f} s ({rate:,.0f} rows/s). To look at them:\n"
                f"  {_how_to_count(warehouse, entry)}"
            )


def _how_to_count(warehouse: str, entry: LedgerEntry) -> str:
    return warehouse_named(warehouse).count_command(entry.target_table).replace("pipeline ", f"{_command()} ", 1)


def _command() -> str:
    """How to call this command again, from a shell where the environment is active or not."""
    called = Path(sys.argv[0])
    return "pipeline" if shutil.which("pipeline") else os.path.relpath(called)
