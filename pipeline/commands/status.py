"""`pipeline status`: shows what is loaded, as tables or as JSON."""

from __future__ import annotations

import argparse
import io
import json
from typing import TYPE_CHECKING, Any

from pipeline.commands import Commands, add_command, add_files, chosen_files, own_command
from pipeline.commands.overview import Entries, State, loads, overview, read_ledgers, rows_missing
from pipeline.datasets import Dataset, format_month
from pipeline.datasets.month_range import Months
from pipeline.errors import counted
from pipeline.tasks.load import orphan_warning
from pipeline.warehouses import warehouse_info, warehouse_named
from pipeline.warehouses.ledger import LedgerEntry

if TYPE_CHECKING:
    from rich.table import Table

_MIN_WIDTH = 130
_SHOWN_ERRORS = 5
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MARKS = {"": " ", State.LOADED: "+", State.MISSING: "-", State.FAILED: "!", State.REPUBLISHED: "*"}


def add_commands(commands: Commands) -> None:
    """Declares the command."""
    summary = "show what is loaded: rows, date, source, and months that are missing"
    command = add_command(commands, "status", summary, _status)
    command.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    command.add_argument("--grid", action="store_true", help="only the months at a glance; with --json, everything")
    add_files(command)


def _status(arguments: argparse.Namespace) -> int:
    """Prints the loaded files, optionally of one dataset or some months; for a single file also how to query it.

    :raises PipelineError: after printing, if a configured warehouse could not be read.
    """
    (dataset, months), grid = chosen_files(arguments), arguments.grid
    ledgers, problem = read_ledgers()
    entries = {name: [e for e in ledger if _is_wanted(e, dataset, months)] for name, ledger in ledgers.items()}
    if arguments.json:
        found = loads(entries)
        shown = {"loads": found, **overview(entries, dataset, months)} if grid else found
        print(json.dumps(shown, default=str, indent=2))
    elif not any(entries.values()):
        print(_nothing_loaded(dataset, months))
        _print_errors(overview(entries, dataset, months))
    else:
        if not grid:
            _print_table(entries)
            _print_summary(entries)
        if grid or months is None or not months.is_one:
            _print_overview(overview(entries, dataset, months))
        _print_missing_rows(entries)
    if problem:
        raise problem
    return 0


def _print_overview(found: dict[str, Any]) -> None:
    """Prints a line per dataset and year with a column per month, and a summary line per warehouse."""
    for name, datasets in found["months"].items():
        if not datasets:
            continue
        print(f"\n{warehouse_info(name).title:<16}{' '.join(_MONTHS)}")
        for dataset, states in datasets.items():
            for year in sorted({month[:4] for month in states}):
                marks = [_MARKS[states.get(f"{year}-{month:02}", "")] for month in range(1, 13)]
                print(f"{dataset:<10} {year}  {'   '.join(marks)}".rstrip())
        if name in found["models_current"]:
            models = _age(found["models_built"][name], found["models_current"][name], "not built yet")
            report = _age(found["report_written"][name], found["report_current"][name], "not written yet")
            print(f"models: {models}; report: {report}; rows in quarantine: {found['rows_in_quarantine'][name]:,}")
    if any(found["months"].values()):
        print("(+ loaded, - missing in between, ! failed, * published again since)")
        _print_errors(found)


def _print_errors(found: dict[str, Any]) -> None:
    """Prints why the newest of the failed months failed, and how many others did."""
    for name, errors in found["errors"].items():
        where = f" in {warehouse_info(name).title}" if len(found["errors"]) > 1 else ""
        for key in sorted(errors)[-_SHOWN_ERRORS:]:
            print(f"{key} failed{where}: {errors[key]}")
        if (more := len(errors) - _SHOWN_ERRORS) > 0:
            print(f"{more} more failed{where}; pipeline status --grid --json has all reasons")


def _print_missing_rows(entries: Entries) -> None:
    """Prints which files have rows that are missing from the table, and how to load them."""
    for warehouse, found in entries.items():
        for release, rows in rows_missing(warehouse, found).items():
            if rows:
                print(orphan_warning(warehouse, release.filename, rows))


def _age(exists: bool, is_current: bool, missing: str) -> str:
    return missing if not exists else "current" if is_current else "out of date"


def _nothing_loaded(dataset: Dataset | None, months: Months | None) -> str:
    wanted = " ".join(filter(None, [dataset.name if dataset else "", str(months or "")]))
    name = dataset.name if dataset else "green"
    month = format_month(dataset.schedule.start) if dataset and dataset.schedule and dataset.schedule.start else ""
    if not month:
        month = format_month(dataset.first_month) if dataset and dataset.first_month else "2019-01"
    example = "pipeline load " + (name if dataset and not dataset.is_monthly else f"{name} {months or month}")
    return f"Nothing{f' of {wanted}' if wanted else ''} is loaded. To load it: {example}"


def _is_wanted(entry: LedgerEntry, dataset: Dataset | None, months: Months | None) -> bool:
    if dataset is not None and entry.dataset_name != dataset.name:
        return False
    return months is None or (entry.month is not None and entry.month in months)


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
    every = [entry for found in entries.values() for entry in found]
    for target, key in sorted({(entry.target_table, entry.partition_key) for entry in every}):
        cells = [cell for found in entries.values() for cell in _cells(found, key)]
        sources = dict.fromkeys(entry.source_url for entry in every if entry.partition_key == key)
        table.add_row(key, target, *cells, "; ".join(sources))
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
            query = warehouse_named(warehouse).count_command(entry.target_table)
            rows = counted(entry.rows_loaded, "row")
            print(
                f"\n{rows}{where} in {entry.seconds:.1f} s ({rate:,.0f} rows/s). To look at them:\n"
                f"  {query.replace('pipeline ', f'{own_command()} ', 1)}"
            )
