"""The `pipeline` command: its parser, and errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import psycopg2

from pipeline.command_line import WrongCommandLine
from pipeline.commands import (
    Parser,
    add_command,
    dbt,
    demo,
    forget,
    postgres,
    schedule_and_ui,
    status,
    tasks,
)
from pipeline.errors import INTERRUPTED, PipelineError

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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors are printed in one line, with the exit code 1."""
    try:
        return _run(argv)
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
        # The reader of the output has exited, as `head` does. Prevents a second error when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"pipeline: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", file=sys.stderr)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    parser = _command_parser()
    arguments, rest = parser.parse_known_args(argv)
    if "run" not in arguments:
        parser.error("no command is given; pipeline help lists them")
    if rest and not arguments.takes_more:
        arguments.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        code = int(arguments.run(arguments))
    except WrongCommandLine as error:
        parser.exit(error.code, f"{arguments.parser.prog}: {error}\n")
    sys.stdout.flush()
    return code


def _command_parser() -> Parser:
    parser = Parser(
        prog="pipeline",
        description="Loads New York taxi trip records into PostgreSQL or BigQuery, models them and reports on them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (tasks, demo, status, forget, postgres, dbt, schedule_and_ui):
        module.add_commands(commands)

    def show_help(arguments: argparse.Namespace) -> int:
        (commands.choices[arguments.command] if arguments.command else parser).print_help()
        return 0

    command = add_command(commands, "help", "show this help, or that of a command", show_help)
    command.add_argument("command", nargs="?", choices=list(commands.choices), metavar="COMMAND", help="which command")
    return parser


class _ShowVersion(argparse.Action):
    """Prints the version when it is asked for, because a checkout that is not installed has none."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(parser.prog, version("tlc-pipeline"))
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
