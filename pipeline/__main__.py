"""The `pipeline` command: load, build, report, and what is there."""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

import psycopg2
from luigi.task_register import Register

from pipeline.commands import adopt, build, dbt, demo, forget, load, psql, report, status, stop, tasks, ui
from pipeline.datasets import all_datasets, monthly_names, parse_month
from pipeline.errors import INTERRUPTED, PipelineError, nearest
from pipeline.warehouses import WAREHOUSES

_EPILOG = """\
e.g.  pipeline load green 2020-03..2020-07 --workers 2      pipeline load yellow 2020      pipeline report --open

load, build and report run Luigi's tasks and print the line that does the same, such as
  luigi --module pipeline LoadTripdata --taxi green --month 2020-04
`pipeline tasks` lists them all; README.md and docs/ say more.

Settings come from luigi.cfg, in this folder or the checkout, or PIPELINE__<SECTION>__<KEY>: PIPELINE__POSTGRES__DSN.
"""


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<word>.*)' \(choose from (?P<known>.*)\)")
_UNKNOWN = re.compile(r"unrecognized arguments: (?P<word>--[\w-]+)")
_EVERYWHERE = {**{name: (name,) for name in WAREHOUSES}, "both": ("postgres", "bigquery")}


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, with the nearest known word, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        if found := _INVALID_CHOICE.search(message):
            known = [word.strip("' ") for word in found["known"].split(",")]
            message += nearest(found["word"], known, "did you mean {}?", start="; ")
            if found["word"] in Register.task_names():
                message = f"{found['word']} is a task: luigi --module pipeline {found['word']} …"
        elif found := _UNKNOWN.search(message):
            options = [option for action in self._actions for option in action.option_strings]
            message += nearest(found["word"], options, "did you mean {}?", start="; ")
        self.exit(2, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 when it did what was asked and 1 when it says why it could not."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.takes_more:
        arguments.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        return int(arguments.run(arguments))
    except PipelineError as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 1
    except psycopg2.Error as error:
        print(f"pipeline: PostgreSQL says: {error.diag.message_primary or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pipeline: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"pipeline: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pipeline",
        description="New York taxi trip records: what is loaded, and what to do with it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(takes_more=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_work_commands(commands)
    _add_warehouse_commands(commands)
    _add_running_commands(commands)
    command = commands.add_parser("help", help="show this help")
    command.set_defaults(run=lambda a: print(parser.format_help(), end="") or 0)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _add_work_commands(commands: Commands) -> None:
    command = commands.add_parser("load", help="load a month, a range of months or a year of a dataset")
    command.add_argument("dataset", choices=list(all_datasets()), help="which dataset")
    command.add_argument("months", nargs="?", type=_months, help="2020-04, 2020-03..2020-07 or 2020")
    _add_warehouses_option(command)
    command.add_argument("--workers", type=_positive, default=1, metavar="N", help="how many months side by side")
    command.add_argument("--force", action="store_true", help="extract and load again, in the place of what is loaded")
    command.add_argument("--source", help="mirror or tlc: whose files; by default the first that has the month")
    command.set_defaults(
        run=lambda a: load.run(a.dataset, a.months, _EVERYWHERE[a.warehouse], a.workers, a.force, a.source)
    )

    command = commands.add_parser("build", help="bring the marts in step with what is loaded, by dbt")
    _add_warehouses_option(command)
    command.add_argument("--full-refresh", action="store_true", help="build from nothing, even what is up to date")
    command.set_defaults(run=lambda a: build.run(_EVERYWHERE[a.warehouse], a.full_refresh))

    command = commands.add_parser("report", help="make the page on what the marts hold, and say where it is")
    _add_warehouses_option(command)
    command.add_argument("--open", action="store_true", help="open it in a browser")
    command.set_defaults(run=lambda a: report.run(_EVERYWHERE[a.warehouse], a.open))

    command = commands.add_parser("tasks", help="list every task with its parameters and an example")
    command.set_defaults(run=lambda a: tasks.run())

    command = commands.add_parser("demo", help="load, model and report on the real months in samples/, in demo/")
    command.set_defaults(run=lambda a: demo.run())


def _add_warehouses_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--warehouse", choices=list(_EVERYWHERE), default="postgres", help="which warehouse, or both")


def _add_warehouse_commands(commands: Commands) -> None:
    command = commands.add_parser("status", help="show what is loaded: where, how many rows, when, from what")
    command.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    command.add_argument("--grid", action="store_true", help="the months at a glance; as JSON with all else")
    _add_file_options(command, required=False)
    command.set_defaults(run=lambda a: status.run(a.taxi, a.month, a.json, a.grid))

    command = commands.add_parser(
        "psql", add_help=False, help="open psql, with any options of its own, on the configured database"
    )
    command.add_argument("-c", "--command", metavar="SQL", action="append", help="run this and exit; may be repeated")
    command.set_defaults(run=lambda a: psql.run(a.command or [], a.rest), takes_more=True)

    command = commands.add_parser(
        "dbt", add_help=False, help="run dbt, with any words of its own, on the configured warehouse"
    )
    command.add_argument("--warehouse", choices=list(WAREHOUSES), default="postgres", help="which warehouse")
    command.set_defaults(run=lambda a: dbt.run(a.warehouse, a.rest), takes_more=True)

    command = commands.add_parser("adopt", help="make a table that the course's Kestra flows made the pipeline's own")
    command.add_argument("dataset", choices=monthly_names(), help="whose table: green_tripdata, yellow_tripdata")
    command.add_argument(
        "--recompute-ids", action="store_true", help="also rows whose id is another one, with the id computed anew"
    )
    command.set_defaults(run=lambda a: adopt.run(a.dataset, a.recompute_ids))

    command = commands.add_parser("forget", help="remove a month everywhere, raw file included, so that it runs again")
    _add_file_options(command, required=True)
    command.set_defaults(run=lambda a: forget.run(a.taxi, a.month))

    command = commands.add_parser("stop", help="stop the embedded PostgreSQL (it also stops by itself when unused)")
    command.set_defaults(run=lambda a: stop.run())


def _add_running_commands(commands: Commands) -> None:
    command = commands.add_parser("schedule", help="load what is published and missing whenever the schedules say so")
    command.add_argument("--taxi", choices=monthly_names(), action="append", help="this dataset only; may be repeated")
    command.add_argument("--once", action="store_true", help="do it now, once, and exit with luigi's exit code")
    command.add_argument("--dry-run", action="store_true", help="print what would fire when, and do nothing")
    command.add_argument(
        "--from",
        dest="since",
        metavar="DATE",
        help="for --dry-run: from this date of each dataset's zone (default: now)",
    )
    command.add_argument("--to", dest="until", metavar="DATE", help="for --dry-run: before this (default: a year on)")
    command.set_defaults(run=_schedule)

    command = commands.add_parser("ui", help="start the central scheduler, whose pages show what runs, ran and failed")
    command.add_argument("--address", help="listen on this address instead of [ui] address")
    command.add_argument("--port", type=int, help="listen on this port instead of [ui] port")
    command.add_argument("--expose", action="store_true", help="allow an address that other machines can reach")
    command.set_defaults(run=lambda a: ui.run(a.address, a.port, a.expose))


def _schedule(arguments: argparse.Namespace) -> int:
    from pipeline.commands import schedule  # the scheduling library takes a while to import

    a = arguments
    return schedule.run(a.taxi, a.once, a.dry_run, a.since, a.until)


def _add_file_options(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument("--taxi", choices=list(all_datasets()), required=required, help="which dataset")
    command.add_argument("--month", type=_month, help="which month, such as 2019-01")


def _month(text: str) -> datetime.date:
    try:
        return parse_month(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _months(text: str) -> load.Months:
    try:
        return load.Months.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; or a range, 2020-03..2020-07, or a year, 2020") from None


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
