"""What is wrong with the words after `luigi`, in one line with the word that may have been meant.

Luigi itself ends in a traceback, or in a page of options. It imports the package before it reads the words itself, so
they can be looked at first.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register

from pipeline.errors import nearest
from pipeline.parameters import CountParameter

UNKNOWN_WORD, BAD_VALUE, EMPTY_RANGE = 2, 40, 35  # the last two as in luigi.cfg
_CORE = {"workers": 1, "scheduler-port": 1, "lock-size": 1, "parallel-scheduling-processes": 0}  # and the least value
_RANGES = ("RangeMonthly", "CatchUpMonthly")
_NO_VALUE = ""


class WrongCommandLine(Exception):
    """A command line that cannot be run, and the exit code that says so."""

    def __init__(self, message: str, code: int = UNKNOWN_WORD):
        super().__init__(message)
        self.code = code


def is_luigi() -> bool:
    """Whether this process is `luigi --module pipeline …`, in either of the two spellings, or `python -m luigi`."""
    program = Path(sys.argv[0])
    if "luigi" not in (program.stem, program.parent.name):
        return False
    return any(values[:1] == ["pipeline"] for name, values in _options(sys.argv[1:]) if name == "module")


def take_options_as_they_are() -> None:
    """Lets no option stand for a longer one: `--source` is the task's own, not short for `--source-base-url`."""
    build: Callable[..., ArgumentParser] = CmdlineParser._build_parser

    def build_without_abbreviations(*arguments: Any, **options: Any) -> ArgumentParser:
        parser = build(*arguments, **options)
        parser.allow_abbrev = False
        return parser

    CmdlineParser._build_parser = staticmethod(build_without_abbreviations)  # type: ignore[method-assign]


def check_command_line(argv: Sequence[str]) -> None:
    """Returns when Luigi will understand the words, as far as can be said without running anything.

    :raises WrongCommandLine: with what is wrong, and what may have been meant.
    """
    if {"--help", "--help-all"} & set(argv):
        return
    tasks = Register.task_names()
    given = list(_options(argv))
    task = _root_task(argv, tasks)
    known = _known_options(task)
    if any(name not in known for name, _ in given) or _has_stray_word(argv, task):
        _check_options(argv, task, known)
    counts = _CORE | {
        name.replace("_", "-"): parameter.least
        for name, parameter in Register.get_task_cls(task).get_params()
        if isinstance(parameter, CountParameter)
    }
    for name, values in given:
        if name in counts and values:
            _check_count(name, values[0], counts[name])
    if task in _RANGES:
        _check_range({name: values[0] for name, values in given if values}, tasks)


def _options(argv: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option's name, without its dashes, and the words that follow it."""
    for at, word in enumerate(argv):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name, [value] if equals else list(argv[at + 1 : at + 2])


def _known_options(task: str) -> set[str]:
    known = set()
    for family, is_without_section, name, _ in Register.get_all_params():
        known.add((name if is_without_section else f"{family}_{name}").replace("_", "-"))
        if family == task:
            known.add(name.replace("_", "-"))
    return known


def _root_task(argv: Sequence[str], tasks: list[str]) -> str:
    for word in argv:
        if word in tasks:
            return word
    word = CmdlineParser._build_parser().parse_known_args(list(argv))[0].root_task
    if word is None:
        raise WrongCommandLine("which task? `pipeline tasks` lists them, each with an example")
    raise WrongCommandLine(_no_task(word, tasks))


def _has_stray_word(argv: Sequence[str], task: str) -> bool:
    """Whether there is a word that is no option, nor the task, nor stands where an option's value does."""
    pairs = zip(("", *argv), argv, strict=False)
    return any(not word.startswith("--") and not before.startswith("--") and word != task for before, word in pairs)


def _no_task(word: str, tasks: list[str]) -> str:
    return f"there is no task {word}; {nearest(word, tasks, 'did you mean {}? ')}`pipeline tasks` lists them"


def _check_options(argv: Sequence[str], task: str, known: set[str]) -> None:
    """Lets Luigi's own parser say which words mean nothing, as it also takes the beginning of an option for it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, unknown = CmdlineParser._build_parser(root_task=task).parse_known_args(list(argv))
    except SystemExit:
        raise WrongCommandLine(said.getvalue().strip().rpartition("error: ")[2]) from None
    for word in unknown:
        if word.startswith("--"):
            name = word[2:].partition("=")[0]
            own = [option.replace("_", "-") for option, _ in Register.get_task_cls(task).get_params()]
            hint = nearest(name, own, "did you mean --{}?") or nearest(name, known, "did you mean --{}?")
            raise WrongCommandLine(f"{task} has no option --{name}; {hint or 'it has: --' + ', --'.join(own)}")
    if unknown:
        raise WrongCommandLine(f"what is '{unknown[0]}' for? An option's value follows it, in quotes if it has spaces")


def _check_count(name: str, value: str, least: int) -> None:
    if not value.isascii() or not value.isdigit() or int(value) < least:
        raise WrongCommandLine(f"--{name} {value}: not a whole number from {least} on", BAD_VALUE)


def _check_range(given: dict[str, str], tasks: list[str]) -> None:
    of = given.get("of", _NO_VALUE)
    if of and of not in tasks:
        raise WrongCommandLine(f"--of {of}: {_no_task(of, tasks)}")
    if of and "of-params" in given:
        _check_of_params(of, given["of-params"])
    if given.get("start") and given.get("start") == given.get("stop"):
        raise WrongCommandLine(
            f"--start {given['start']} --stop {given['stop']}: no month at all, as --stop is the month after the last",
            EMPTY_RANGE,
        )


def _check_of_params(of: str, text: str) -> None:
    try:
        values: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise WrongCommandLine(
            f"""--of-params {text}: not JSON such as '{{"taxi":"green"}}': {error}""", BAD_VALUE
        ) from None
    known = [name for name, _ in Register.get_task_cls(of).get_params()]
    for name in values if isinstance(values, dict) else []:
        if name not in known:
            hint = nearest(name, known, "did you mean {}?") or f"it has: {', '.join(known)}"
            raise WrongCommandLine(f"--of-params: {of} has no parameter {name}; {hint}")
