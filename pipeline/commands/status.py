"""`pipeline status`: shows what is loaded, as tables or as JSON."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets import Dataset, all_datasets, format_month, parse_month
from pipeline.datasets.month_range import Months
from pipeline.errors import PipelineError
from pipeline.extract.availability import NewEditions
from pipeline.monitoring.overview import State, failed_releases, month_states
from pipeline.settings import ScheduleSettings, StorageSettings
from pipeline.targets import ModelsMarker, ReportPage
from pipeline.warehouses import configured_warehouses, warehouse_info, warehouse_named
from pipeline.warehouses.ledger import LedgerEntry

if TYPE_CHECKING:
    from rich.table import Table

_MIN_WIDTH = 130
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MARKS = {"": " ", State.LOADED: "+", State.MISSING: "-", State.FAILED: "!", State.REPUBLISHED: "*"}

Entries = dict[str, list[LedgerEntry]]


def run(dataset: Dataset | None, months: Months | None, as_json: bool, grid: bool) -> int:
    """Prints the loaded files, optionally of one dataset or some months; for a single file also how to query it.

    :raises PipelineError: after printing, if a configured warehouse could not be read.
    """
    ledgers, problem = _ledgers()
    entries = {name: [e for e in ledger if _is_wanted(e, dataset, months)] for name, ledger in ledgers.items()}
    if as_json and grid:
        print(json.dumps(_overview(entries, dataset, months), default=str, indent=2))
    elif as_json:
        print(json.dumps(_loads(entries), default=str, indent=2))
    elif not any(entries.values()):
        print(_nothing_loaded(dataset, months))
    else:
        if not grid:
            _print_table(entries)
            _print_summary(entries)
        if grid or months is None or not months.is_one:
            _print_overview(_overview(entries, dataset, months))
    if problem:
        raise problem
    return 0


def _loads(entries: Entries) -> list[dict[str, object]]:
    loads: list[dict[str, object]] = []
    for name, found in entries.items():
        republished = _republished(found)
        loads += [
            {"warehouse": name, **asdict(e), "seconds": e.seconds, "republished": e.partition_key in republished}
            for e in found
        ]
    return loads


def _overview(entries: Entries, dataset: Dataset | None, wanted: Months | None) -> dict[str, Any]:
    """Returns the loads, the states of months, models and reports, and the number of rows in quarantine."""
    failed = failed_releases(StorageSettings().folder("logs"))
    datasets = [dataset] if dataset else list(all_datasets().values())
    months: dict[str, dict[str, dict[str, str]]] = {}
    for name, found in entries.items():
        loaded, republished = {entry.partition_key for entry in found}, _republished(found)
        states = {
            spec.name: {
                format_month(month): str(state)
                for month, state in month_states(spec, loaded, republished, failed).items()
                if wanted is None or month in wanted
            }
            for spec in datasets
            if spec.is_monthly
        }
        months[name] = {dataset: of_months for dataset, of_months in states.items() if of_months}
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
    """Returns the keys of files that have been republished since they were loaded, as of the last catch-up."""
    seen = NewEditions(ScheduleSettings().folder()).read()
    found = [(entry, seen.get((entry.partition_key, entry.source))) for entry in entries]
    return {entry.partition_key for entry, edition in found if edition and entry.is_superseded_by(edition)}


def _print_overview(overview: dict[str, Any]) -> None:
    """Prints a line per dataset and year with a column per month, and a summary line per warehouse."""
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
        quarantined = overview["rows_in_quarantine"][name]
        print(f"models: {current[models]}; report: {current[report]}; rows in quarantine: {quarantined:,}")
    if any(overview["months"].values()):
        print("(+ loaded, - missing in between, ! failed, * published again since)")


def _nothing_loaded(dataset: Dataset | None, months: Months | None) -> str:
    wanted = " ".join(filter(None, [dataset.name if dataset else "", str(months or "")]))
    name = dataset.name if dataset else "green"
    example = "pipeline load " + (name if dataset and not dataset.is_monthly else f"{name} {months or '2019-01'}")
    return f"Nothing{f' of {wanted}' if wanted else ''} is loaded. To load it: {example}"


def _ledgers() -> tuple[Entries, PipelineError | None]:
    """Returns the ledgers of the configured warehouses, and the error if one could not be read."""
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


def _is_wanted(entry: LedgerEntry, dataset: Dataset | None, months: Months | None) -> bool:
    name, _, month = entry.partition_key.partition("/")
    if dataset is not None and name != dataset.name:
        return False
    return months is None or (bool(month) and parse_month(month) in months)


def _print_table(entries: Entries) -> None:
    from rich.console import Console

    table = _table(entries)
    # Lines wrap in a narrow terminal, so that names stay complete; in a pipe, each row is one line.
    terminal = Console()
    if terminal.is_terminal:
        Console(width=max(terminal.width, _MIN_WIDTH)).print(table)
    else:
        text = io.StringIO()
        Console(file=text, width=1000).print(table)
        print("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def _table(entries: Entries) -> Table:
    """Returns a table with a row per file, and the columns of two warehouses side by side."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("what", "table"):
        table.add_column(name, no_wrap=True)
    for warehouse in entries:
        prefix = f"{warehouse_info(warehouse).title} " if len(entries) > 1 else ""
        for name in (f"{prefix}rows", "duplicate", "rejected", "seconds"):
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
    """Prints the rate of a load and how to query its rows, if there is a single file."""
    if len({entry.partition_key for found in entries.values() for entry in found}) > 1:
        return
    for warehouse, found in entries.items():
        for entry in found:
            where = f" in {warehouse_info(warehouse).title}" if len(entries) > 1 else ""
            rate = entry.rows_read / max(entry.seconds, 1e-3)
            print(
                f"\n{entry.rows_loaded:,} rows{where} in {entry.seconds:.1f} s ({rate:,.0f} rows/s). To look at them:\n"
                f"  {_count_command(warehouse, entry)}"
            )


def _count_command(warehouse: str, entry: LedgerEntry) -> str:
    return warehouse_named(warehouse).count_command(entry.target_table).replace("pipeline ", f"{_command()} ", 1)


def _command() -> str:
    """Returns how to call `pipeline`, whether or not the virtual environment is active."""
    called = Path(sys.argv[0])
    return "pipeline" if shutil.which("pipeline") else os.path.relpath(called)
