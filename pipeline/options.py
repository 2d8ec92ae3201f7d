"""The command line of `pipeline`: its commands, their options, and the functions that they call."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from pipeline.arguments import Parser, ShowVersion, monthly, months, one_of, positive
from pipeline.command_line import WrongCommandLine
from pipeline.commands import adopt, build, dbt, demo, forget, load, psql, report, status, stop, tasks, ui
from pipeline.datasets import all_datasets, dataset_named, monthly_names
from pipeline.datasets.month_range import Months
from pipeline.warehouses import WAREHOUSES

_EPILOG = """\
examples:
  pipeline load green 2020-03..2020-07 --workers 2
  pipeline load yellow 2020
  pipeline report --open

load, build and report run Luigi tasks, and print the luigi command that does the same:
  luigi --module pipeline LoadTripdata --taxi green --month 2020-04
`pipeline tasks` lists the tasks. README.md and docs/ have more.

Settings come from luigi.cfg in this folder or in the checkout, and from environment variables
named PIPELINE__<SECTION>__<KEY>, such as PIPELINE__POSTGRES__DSN.
"""

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
_MONTHS = "a month (2020-04), a range (2020-03..2020-07) or a year (2020)"
_WAREHOUSE_CHOICES = {**{name: (name,) for name in WAREHOUSES}, "both": ("postgres", "bigquery")}


def command_parser() -> argparse.ArgumentParser:
    """Returns the parser; its result has `run`, the function to call with it, and `parser`, for reporting errors."""
    parser = Parser(
        prog="pipeline",
        description="Loads New York taxi trip records into PostgreSQL or BigQuery, models them and reports on them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(takes_more=False)
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_work_commands(commands)
    _add_warehouse_commands(commands)
    _add_running_commands(commands)
    command = _add(commands, "help", "show this help, or that of a command")
    command.add_argument("command", nargs="?", choices=list(commands.choices), metavar="COMMAND", help="which command")
    command.set_defaults(
        run=lambda a: print((commands.choices[a.command] if a.command else parser).format_help(), end="") or 0
    )
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _add(commands: Commands, name: str, summary: str, add_help: bool = True) -> Parser:
    return commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", add_help=add_help)


def _add_work_commands(commands: Commands) -> None:
    command = _add(commands, "load", "load a month, a range of months or a year of a dataset")
    command.add_argument("dataset", choices=list(all_datasets()), metavar="DATASET", help=one_of(all_datasets()))
    command.add_argument("months", nargs="?", type=months, metavar="MONTHS", help=_MONTHS)
    _add_warehouses_option(command)
    command.add_argument("--workers", type=positive, default=1, metavar="N", help="how many months to load at a time")
    command.add_argument("--force", action="store_true", help="extract and load again, and replace what is loaded")
    command.add_argument(
        "--source",
        metavar="SOURCE",
        help="mirror or tlc: which publisher to take the files from (default: by the month)",
    )
    command.add_argument(
        "--source-base-url", metavar="URL", help="take the files from this URL or folder instead of [source] base_url"
    )
    command.add_argument(
        "--max-bad-rows",
        type=positive,
        default=0,
        metavar="N",
        help="malformed rows to set aside before a month fails",
    )
    command.set_defaults(run=_load)

    command = _add(commands, "build", "build the marts from what is loaded, with dbt")
    _add_warehouses_option(command)
    command.add_argument("--full-refresh", action="store_true", help="rebuild everything, even if it is up to date")
    command.set_defaults(run=lambda a: build.run(_WAREHOUSE_CHOICES[a.warehouse], a.full_refresh))

    command = _add(commands, "report", "write the report on the marts, and print where it is")
    _add_warehouses_option(command)
    command.add_argument("--open", action="store_true", help="open it in a browser")
    command.set_defaults(run=lambda a: report.run(_WAREHOUSE_CHOICES[a.warehouse], a.open))

    command = _add(commands, "tasks", "list every task with its parameters and an example")
    command.set_defaults(run=lambda a: tasks.run())

    command = _add(commands, "demo", "load, model and report on sample data, in a folder of its own")
    command.set_defaults(run=lambda a: demo.run())


def _add_warehouses_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--warehouse", choices=list(_WAREHOUSE_CHOICES), default="postgres", help="which warehouse, or both"
    )


def _add_warehouse_commands(commands: Commands) -> None:
    command = _add(commands, "status", "show what is loaded: rows, date, source, and months that are missing")
    command.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    command.add_argument("--grid", action="store_true", help="only the months at a glance; with --json, everything")
    _add_files(command)
    command.set_defaults(run=_status)

    command = _add(commands, "psql", "open psql on the configured database; takes psql's own options", add_help=False)
    command.add_argument("-c", "--command", metavar="SQL", action="append", help="run this and exit; may be repeated")
    command.set_defaults(run=lambda a: psql.run(a.command or [], a.rest), takes_more=True)

    command = _add(
        commands, "dbt", "run dbt on the configured warehouse; takes dbt's own commands and options", add_help=False
    )
    command.add_argument("--warehouse", choices=list(WAREHOUSES), default="postgres", help="which warehouse")
    command.set_defaults(run=lambda a: dbt.run(a.warehouse, a.rest), takes_more=True)

    command = _add(commands, "adopt", "take over a table that the course's Kestra flows have loaded")
    command.add_argument(
        "dataset", choices=monthly_names(), metavar="DATASET", help=f"{one_of(monthly_names())}: whose table"
    )
    command.add_argument(
        "--recompute-ids", action="store_true", help="also take rows with a different id, and give them a new one"
    )
    command.set_defaults(run=lambda a: adopt.run(a.dataset, a.recompute_ids))

    command = _add(commands, "forget", "remove months everywhere, raw files included, to load them again")
    _add_files(command)
    command.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    command.set_defaults(run=_forget)

    command = _add(commands, "stop", "stop the embedded PostgreSQL now; unused, it stops by itself")
    command.set_defaults(run=lambda a: stop.run())


def _add_running_commands(commands: Commands) -> None:
    command = _add(commands, "schedule", "load missing months as they are published, at scheduled times")
    names = one_of(monthly_names())
    command.add_argument("datasets", nargs="*", type=monthly, metavar="DATASET", help=f"{names} (default: all)")
    command.add_argument(
        "--taxi", choices=monthly_names(), action="append", metavar="DATASET", help="the same, as an option"
    )
    command.add_argument(
        "--once", action="store_true", help="load what is missing now, and exit with Luigi's exit code"
    )
    command.add_argument("--dry-run", action="store_true", help="print the scheduled times, and do nothing")
    command.add_argument(
        "--from", dest="since", metavar="DATE", help="with --dry-run: print times from this date on (default: now)"
    )
    command.add_argument(
        "--to", dest="until", metavar="DATE", help="with --dry-run: print times before this date (default: in a year)"
    )
    command.set_defaults(run=_schedule)

    command = _add(commands, "ui", "serve the web page, and Luigi's central scheduler")
    command.add_argument("--address", help="listen on this address instead of [ui] address")
    command.add_argument("--port", type=int, help="listen on this port instead of [ui] port")
    command.add_argument("--expose", action="store_true", help="allow an address that other machines can reach")
    command.set_defaults(run=lambda a: ui.run(a.address, a.port, a.expose))


def _load(arguments: argparse.Namespace) -> int:
    a, dataset = arguments, dataset_named(arguments.dataset)
    base_url = a.source_base_url or ""
    months = load.wanted_months(dataset, a.months, base_url)
    warehouses = _WAREHOUSE_CHOICES[a.warehouse]
    return load.run(
        load.LoadRequest(dataset, months, warehouses, a.workers, a.force, a.source or "", base_url, a.max_bad_rows)
    )


def _status(arguments: argparse.Namespace) -> int:
    name, months = _files(arguments)
    return status.run(dataset_named(name) if name else None, months, arguments.json, arguments.grid)


def _forget(arguments: argparse.Namespace) -> int:
    name, months = _files(arguments)
    if name is None:
        raise WrongCommandLine("which dataset, and which months? For example: pipeline forget green 2020-04")
    return forget.run(dataset_named(name), months, arguments.dry_run)


def _schedule(arguments: argparse.Namespace) -> int:
    from pipeline.commands import schedule  # the scheduling library takes a while to import

    a = arguments
    return schedule.run([*a.datasets, *(a.taxi or [])], a.once, a.dry_run, a.since, a.until)


def _add_files(command: argparse.ArgumentParser) -> None:
    names = one_of(all_datasets())
    command.add_argument("dataset", nargs="?", choices=list(all_datasets()), metavar="DATASET", help=names)
    command.add_argument("months", nargs="?", type=months, metavar="MONTHS", help=_MONTHS)
    command.add_argument("--taxi", choices=list(all_datasets()), metavar="DATASET", help="the dataset, as an option")
    command.add_argument("--month", type=months, metavar="MONTHS", help="the months, as an option")


def _files(arguments: argparse.Namespace) -> tuple[str | None, Months | None]:
    """Returns the dataset and the months, which are given as arguments or as options."""
    a = arguments
    if (a.dataset and a.taxi) or (a.months and a.month):
        raise WrongCommandLine("the dataset and the months can be given only once")
    return a.dataset or a.taxi, a.months or a.month
