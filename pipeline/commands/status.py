"""`pipeline status`: the ledger, for people and for programs."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.datasets import all_specs, format_month, spec_named
from pipeline.settings import postgres
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres import all_loads
from pipeline.warehouses.postgres.tables import Tables

_NARROWEST = 130


def run(taxi: str | None, month: datetime.date | None, as_json: bool) -> int:
    """Prints the files that are loaded, those of one dataset or month if asked; a lone one with how to look at it."""
    entries = [entry for entry in _ledger() if _is_wanted(entry, taxi, month)]
    if as_json:
        print(json.dumps([asdict(entry) | {"seconds": entry.seconds} for entry in entries], default=str, indent=2))
    elif not entries:
        print(_nothing(taxi, month))
    else:
        _print_table(entries)
        if len(entries) == 1:
            _print_summary(entries[0])
    return 0


def _nothing(taxi: str | None, month: datetime.date | None) -> str:
    wanted = [taxi or "", format_month(month) if month else ""]
    of_that = " of " + " ".join(filter(None, wanted)) if any(wanted) else ""
    task = "LoadZones" if taxi and not spec_named(taxi).is_monthly else "LoadTripdata"
    options = f" --taxi {wanted[0] or 'green'} --month {wanted[1] or '2019-01'}" if task == "LoadTripdata" else ""
    return f"Nothing{of_that} is loaded. To begin: luigi --module pipeline {task}{options}"


def _ledger() -> list[LedgerEntry]:
    database = postgres().database()
    any_spec = next(iter(all_specs().values()))
    with contextlib.closing(database.connect()) as connection:
        return all_loads(connection, Tables(database.schema, any_spec).ledger)


def _is_wanted(entry: LedgerEntry, taxi: str | None, month: datetime.date | None) -> bool:
    if taxi is None:
        return month is None or entry.partition_key.endswith(f"/{month:%Y-%m}")
    if month is None:
        return entry.target_table == spec_named(taxi).table
    return entry.partition_key == spec_named(taxi).partition_key(month)


def _print_table(entries: list[LedgerEntry]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("what", "table"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "duplicate", "rejected", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("loaded at", no_wrap=True)
    table.add_column("from", overflow="fold")
    for e in entries:
        counts = [f"{n:,}" for n in (e.rows_loaded, e.rows_duplicate, e.rows_rejected)]
        when = f"{e.finished_at.astimezone():%Y-%m-%d %H:%M}" if e.finished_at else ""
        table.add_row(e.partition_key, e.target_table, *counts, f"{e.seconds:.1f}", when, e.source_url)
    # A narrow terminal wraps lines rather than lose a name; piped, a row is a line whatever its width.
    terminal = Console()
    if terminal.is_terminal:
        Console(width=max(terminal.width, _NARROWEST)).print(table)
    else:
        text = io.StringIO()
        Console(file=text, width=1000).print(table)
        print("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def _print_summary(entry: LedgerEntry) -> None:
    rate = entry.rows_read / max(entry.seconds, 1e-3)
    print(
        f"\n{entry.rows_loaded:,} rows in {entry.seconds:.1f} s ({rate:,.0f} rows/s). To look at them:\n"
        f"  {_command()} psql -c 'select count(*) from {entry.target_table}'"
    )


def _command() -> str:
    """How to call this command again, from a shell where the environment is active or not."""
    called = Path(sys.argv[0])
    return "pipeline" if shutil.which("pipeline") else os.path.relpath(called)
