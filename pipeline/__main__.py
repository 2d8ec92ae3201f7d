"""The `pipeline` command: what is loaded, a prompt on it, and how to take it back."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from typing import TypeAlias

import psycopg2

from pipeline.commands import dbt, forget, psql, status, stop, ui
from pipeline.datasets import all_datasets, monthly_names, parse_month
from pipeline.errors import PipelineError
from pipeline.warehouses import WAREHOUSES

_EPILOG = """\
Loading is done by luigi:
  luigi --module pipeline LoadTripdata --taxi green --month 2019-01
  luigi --module pipeline RangeMonthly --of LoadTripdata --of-params '{"taxi":"green"}' --start 2019-01 --stop 2020-01
  luigi --module pipeline TripdataPipeline --taxi green --month 2019-01 --warehouse postgres    (load, dbt, report)
All tasks are in README.md, further pages in docs/.

Settings come from luigi.cfg, in this folder or the checkout, or PIPELINE__<SECTION>__<KEY>: PIPELINE__POSTGRES__DSN.
"""


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 when it did what was asked and 1 when it says why it could not."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.takes_more:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        return int(arguments.run(arguments))
    except PipelineError as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 1
    except psycopg2.Error as error:
        print(f"pipeline: PostgreSQL says: {error.diag.message_primary or error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"pipeline: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipeline",
        description="New York taxi trip records: what is loaded, and what to do with it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(takes_more=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_warehouse_commands(commands)
    _add_running_commands(commands)
    command = commands.add_parser("help", help="show this help")
    command.set_defaults(run=lambda a: print(parser.format_help(), end="") or 0)
    return parser


def _add_warehouse_commands(commands: Commands) -> None:
    command = commands.add_parser("status", help="show what is loaded: where, how many rows, when, from what")
    command.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    _add_file_options(command, required=False)
    command.set_defaults(run=lambda a: status.run(a.taxi, a.month, a.json))

    command = commands.add_parser("psql", help="open psql, with any options of its own, on the configured database")
    command.add_argument("-c", "--command", metavar="SQL", action="append", help="run this and exit; may be repeated")
    command.set_defaults(run=lambda a: psql.run(a.command or [], a.rest), takes_more=True)

    command = commands.add_parser("dbt", help="run dbt, with any words of its own, on the configured warehouse")
    command.add_argument("--warehouse", choices=list(WAREHOUSES), default="postgres", help="which warehouse")
    command.set_defaults(run=lambda a: dbt.run(a.warehouse, a.rest), takes_more=True)

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


if __name__ == "__main__":
    sys.exit(main())
