"""What the commands of `pipeline` share: their parser, with errors in one line, their arguments, and running `luigi`.

Each module declares its commands in `add_commands`. Those that load, build and report run Luigi tasks.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

from luigi.retcodes import run_with_retcodes
from luigi.task_register import Register

from pipeline import __all__ as TASKS
from pipeline.command_line import WrongCommandLine
from pipeline.datasets import Dataset, all_datasets, dataset_named
from pipeline.datasets.month_range import Months
from pipeline.errors import INTERRUPTED, nearest
from pipeline.parameters import option_name
from pipeline.tasks.base import WAREHOUSE_CHOICES

_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<word>.*)' \(choose from (?P<known>.*)\)")
_UNKNOWN = re.compile(r"unrecognized arguments: (?P<word>--[\w-]+)")
_HERE = Path()
_ANOTHER_MONTH = re.compile(r"unrecognized arguments: \d{4}")

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """Accepts no abbreviated options; reports an error in one line, with a suggestion, and exits with 2.

    `hint` is what to do about an invalid choice that resembles no valid one.
    """

    hint = ""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = list(args or [])
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = self._unknown_option()
        if unknown and not message.startswith("unrecognized arguments"):
            # The value of the unknown option was taken for an argument.
            message = f"unrecognized arguments: {unknown}"
        if found := _INVALID_CHOICE.search(message):
            known = [word.strip("' ") for word in found["known"].split(",")]
            message += nearest(found["word"], known, "did you mean {}?", start="; ") or self.hint
            if found["word"] in TASKS and found["word"].lower() not in known:
                message = f"{found['word']} is a task: luigi --module pipeline {found['word']} …"
        elif found := _UNKNOWN.search(message):
            options = [option for action in self._actions for option in action.option_strings]
            message += _setting_hint(found["word"]) or nearest(found["word"], options, "did you mean {}?", start="; ")
        elif _ANOTHER_MONTH.search(message):
            message += "; several months are given as a range: 2020-03..2020-07"
        self.exit(2, f"{self.prog}: {message}\n")

    def _unknown_option(self) -> str:
        """Returns the first option that this command does not have, or an empty string."""
        if self.get_default("takes_more") is not False:
            return ""
        options = [word.partition("=")[0] for word in self._given if word.startswith("--")]
        return next((option for option in options if option not in self._option_string_actions), "")


def _setting_hint(option: str) -> str:
    """Returns how to give a setting that is only an option of `luigi`; empty for another option."""
    for family, _, name, _ in Register.get_all_params():
        if option == option_name(f"{family}_{name}"):
            return f"; set PIPELINE__{family.upper()}__{name.upper()} instead"
    return ""


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_command(
    commands: Commands, name: str, summary: str, run: Callable[[argparse.Namespace], int], takes_more: bool = False
) -> Parser:
    """Adds a command that `run` executes and returns its parser.

    With `takes_more`, the arguments that it does not declare are allowed, `--help` included, and given in `rest`.
    """
    description = f"{summary[0].upper()}{summary[1:]}."
    command = commands.add_parser(name, help=summary, description=description, add_help=not takes_more)
    command.set_defaults(run=run, parser=command, takes_more=takes_more)
    return command


def add_warehouses(command: Parser) -> None:
    """Adds the option `--warehouse`, whose values are the keys of `WAREHOUSE_CHOICES`."""
    command.add_argument(
        "--warehouse",
        choices=list(WAREHOUSE_CHOICES),
        default="postgres",
        help="which warehouse, or both (default: postgres)",
    )


def add_dataset(command: Parser, names: Iterable[str], help_suffix: str = "", **options: Any) -> None:
    """Adds the argument `dataset`, one of the names."""
    known = list(names)
    command.add_argument("dataset", choices=known, metavar="DATASET", help=one_of(known) + help_suffix, **options)


def add_months(command: Parser) -> None:
    """Adds the argument `months`, which can be omitted."""
    what = "a month (2020-04), a range (2020-03..2020-07) or a year (2020)"
    command.add_argument("months", nargs="?", type=argument(Months.parse), metavar="MONTHS", help=what)


def add_files(command: Parser) -> None:
    """Adds a dataset and months as arguments and as options, for `chosen_files`."""
    add_dataset(command, all_datasets(), nargs="?")
    add_months(command)
    command.add_argument("--taxi", choices=list(all_datasets()), metavar="DATASET", help="the same as DATASET")
    command.add_argument("--month", type=argument(Months.parse), metavar="MONTHS", help="the same as MONTHS")


def chosen_files(arguments: argparse.Namespace) -> tuple[Dataset | None, Months | None]:
    """Returns the dataset and the months, which are given as arguments or as options."""
    a = arguments
    if (a.dataset and a.taxi) or (a.months and a.month):
        raise WrongCommandLine("the dataset and the months can be given only once")
    name = a.dataset or a.taxi
    return dataset_named(name) if name else None, a.months or a.month


def check_months(command: str, dataset: Dataset, months: Months | None) -> None:
    """:raises WrongCommandLine: if the months are missing, or given for a dataset without months."""
    if dataset.is_monthly and months is None:
        raise WrongCommandLine(f"which months of {dataset.name}? For example: {command} {dataset.name} 2020-04")
    if months and not dataset.is_monthly:
        raise WrongCommandLine(f"{dataset.name} is one file and has no months: {command} {dataset.name}")


def one_of(names: Iterable[str]) -> str:
    """Joins names as in `fhv, green or yellow`."""
    *others, last = names
    return f"{', '.join(others)} or {last}"


def argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Returns `parse` as a type for argparse, which otherwise does not show the message of a ValueError."""

    def parse_argument(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def luigi_line(arguments: Iterable[str]) -> str:
    """Returns the equivalent `luigi` command line."""
    return shlex.join(["luigi", "--module", "pipeline", *arguments])


def run_luigi(arguments: list[str]) -> int:
    """Prints the equivalent `luigi` command line, runs it in this process and returns its exit code.

    Ctrl-C ends this process, too, whatever is left to run.
    """
    print(luigi_line(arguments), file=sys.stderr, flush=True)
    try:
        run_with_retcodes(["--module", "pipeline", *arguments])
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            raise
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def own_command(folder: Path = _HERE) -> str:
    """Returns how to call `pipeline` in a folder, whether or not the virtual environment is active."""
    if shutil.which("pipeline"):
        return "pipeline"
    relative = os.path.relpath(sys.argv[0], folder)
    return shlex.quote(relative if not relative.startswith("../..") else str(Path(sys.argv[0]).absolute()))
