"""The argument parser of `pipeline`, with errors in one line, and the types of its arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from luigi.task_register import Register

from pipeline.datasets import monthly_names
from pipeline.datasets.month_range import Months
from pipeline.errors import nearest

_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<word>.*)' \(choose from (?P<known>.*)\)")
_UNKNOWN = re.compile(r"unrecognized arguments: (?P<word>--[\w-]+)")
_ANOTHER_MONTH = re.compile(r"unrecognized arguments: \d{4}")


class Parser(argparse.ArgumentParser):
    """Accepts no abbreviated options; reports an error in one line, with a suggestion, and exits with 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        if found := _INVALID_CHOICE.search(message):
            known = [word.strip("' ") for word in found["known"].split(",")]
            message += nearest(found["word"], known, "did you mean {}?", start="; ")
            if found["word"] in Register.task_names() and found["word"].lower() not in known:
                message = f"{found['word']} is a task: luigi --module pipeline {found['word']} …"
        elif found := _UNKNOWN.search(message):
            options = [option for action in self._actions for option in action.option_strings]
            message += nearest(found["word"], options, "did you mean {}?", start="; ")
        elif _ANOTHER_MONTH.search(message):
            message += "; several months are given as a range: 2020-03..2020-07"
        self.exit(2, f"{self.prog}: {message}\n")


class ShowVersion(argparse.Action):
    """Prints the installed version, which is read only when it is needed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(parser.prog, version("tlc-pipeline"))
        parser.exit()


def one_of(names: Iterable[str]) -> str:
    """Joins names as in `fhv, green or yellow`."""
    *others, last = names
    return f"{', '.join(others)} or {last}"


def monthly(text: str) -> str:
    """Checks the name of a monthly dataset. Replaces `choices`, which does not accept an empty list of arguments."""
    if text not in monthly_names():
        known = ", ".join(map(repr, monthly_names()))
        raise argparse.ArgumentTypeError(f"invalid choice: '{text}' (choose from {known})")
    return text


def months(text: str) -> Months:
    """Parses months."""
    try:
        return Months.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Parses a positive whole number."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)
