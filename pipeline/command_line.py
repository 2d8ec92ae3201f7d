"""Checks the arguments of `luigi`, and reports errors in one line with a suggestion.

Luigi itself prints a traceback or all of its options. As it imports the package before it parses the arguments, they
can be checked first.
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

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register

from pipeline.datasets import parse_month
from pipeline.errors import PipelineError, nearest
from pipeline.parameters import CountParameter, OneOfParameter
from pipeline.settings import Section

UNKNOWN_ARGUMENT, BAD_VALUE, EMPTY_RANGE = 2, 40, 35  # the last two are those of luigi.cfg
# Luigi's options that are whole numbers, and their minimum.
_LUIGI_COUNTS = {"workers": 1, "scheduler-port": 1, "lock-size": 1, "parallel-scheduling-processes": 0}
_RANGES = ("RangeMonthly", "CatchUpMonthly")


class WrongCommandLine(Exception):
    """An invalid command line, with its exit code."""

    def __init__(self, message: str, code: int = UNKNOWN_ARGUMENT):
        super().__init__(message)
        self.code = code


def is_luigi() -> bool:
    """Returns whether this process is `luigi` or `python -m luigi` with `--module pipeline` or `--module=pipeline`."""
    program = Path(sys.argv[0])
    if "luigi" not in (program.stem, program.parent.name):
        return False
    return any(values[:1] == ["pipeline"] for name, values in _options(sys.argv[1:]) if name == "module")


def disable_abbreviations() -> None:
    """Disables abbreviated options, so that `--source` is the task's own and not short for `--source-base-url`."""
    build: Callable[..., ArgumentParser] = CmdlineParser._build_parser

    def build_without_abbreviations(*arguments: Any, **options: Any) -> ArgumentParser:
        parser = build(*arguments, **options)
        parser.allow_abbrev = False
        return parser

    CmdlineParser._build_parser = staticmethod(build_without_abbreviations)  # type: ignore[method-assign]


def check_command_line(argv: Sequence[str]) -> None:
    """Checks the arguments of `luigi` as far as possible without running a task.

    :raises WrongCommandLine: if they are invalid; the message contains a suggestion if there is a similar name.
    """
    if {"--help", "--help-all"} & set(argv):
        return
    tasks = Register.task_names()
    given = list(_options(argv))
    task = _root_task(argv, tasks)
    known = _known_options(task)
    if any(name not in known for name, _ in given) or _has_extra_argument(argv, task):
        _check_options(argv, task, known)
    checked = _checked_parameters(task)
    for name, values in given:
        if name in checked and values:
            _check_value(name, values[0], checked[name])
    if task in _RANGES:
        _check_range({name: values[0] for name, values in given if values}, tasks)


def _options(argv: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields each option's name, without dashes, with a list of its value, or an empty list."""
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


def _has_extra_argument(argv: Sequence[str], task: str) -> bool:
    """Returns whether there is an argument that is neither the task nor an option nor the value of one."""
    pairs = zip(("", *argv), argv, strict=False)
    return any(not word.startswith("--") and not before.startswith("--") and word != task for before, word in pairs)


def _no_task(word: str, tasks: list[str]) -> str:
    return f"there is no task {word}; {nearest(word, tasks, 'did you mean {}? ')}`pipeline tasks` lists them"


def _check_options(argv: Sequence[str], task: str, known: set[str]) -> None:
    """Rejects the arguments that Luigi's own parser does not recognize."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            _, unknown = CmdlineParser._build_parser(root_task=task).parse_known_args(list(argv))
    except SystemExit:
        raise WrongCommandLine(output.getvalue().strip().rpartition("error: ")[2]) from None
    for word in unknown:
        if word.startswith("--"):
            name = word[2:].partition("=")[0]
            own = [option.replace("_", "-") for option, _ in Register.get_task_cls(task).get_params()]
            hint = nearest(name, own, "did you mean --{}?") or nearest(name, known, "did you mean --{}?")
            raise WrongCommandLine(f"{task} has no option --{name}; {hint or 'it has: --' + ', --'.join(own)}")
    if unknown:
        raise WrongCommandLine(f"what is '{unknown[0]}' for? An option's value follows it, in quotes if it has spaces")


def _checked_parameters(task: str) -> dict[str, luigi.Parameter[Any]]:
    """Returns the parameters of options whose values Luigi parses only when something runs, or not at all."""
    found: dict[str, luigi.Parameter[Any]] = {
        name: CountParameter(least=least) for name, least in _LUIGI_COUNTS.items()
    }
    for family, _, name, parameter in Register.get_all_params():
        if isinstance(parameter, CountParameter | OneOfParameter) or issubclass(Register.get_task_cls(family), Section):
            found[f"{family}_{name}".replace("_", "-")] = parameter
            if family == task:
                found[name.replace("_", "-")] = parameter
    return found


def _check_value(name: str, value: str, parameter: luigi.Parameter[Any]) -> None:
    if value.startswith("--"):
        return  # the next option, after a flag without a value
    try:
        parameter.normalize(parameter.parse(value))
    except ValueError as error:
        raise WrongCommandLine(f"--{name}: {error}", BAD_VALUE) from None
    except PipelineError as error:
        raise WrongCommandLine(str(error), BAD_VALUE) from None


def _check_range(given: dict[str, str], tasks: list[str]) -> None:
    of = given.get("of", "")
    if of and of not in tasks:
        raise WrongCommandLine(f"--of {of}: {_no_task(of, tasks)}")
    if of and "of-params" in given:
        _check_of_params(of, given["of-params"])
    with contextlib.suppress(KeyError, ValueError):  # Luigi reports what is not a month
        if parse_month(given["start"]) >= parse_month(given["stop"]):
            span = f"--start {given['start']} --stop {given['stop']}"
            raise WrongCommandLine(f"{span}: no month at all, as --stop is the month after the last", EMPTY_RANGE)


def _check_of_params(of: str, text: str) -> None:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise WrongCommandLine(
            f"""--of-params {text}: not JSON such as '{{"taxi":"green"}}': {error}""", BAD_VALUE
        ) from None
    if not isinstance(values, dict):
        raise WrongCommandLine(f"""--of-params {text}: not a JSON object such as '{{"taxi":"green"}}'""", BAD_VALUE)
    known = [name for name, _ in Register.get_task_cls(of).get_params()]
    for name in values:
        if name not in known:
            hint = nearest(name, known, "did you mean {}?") or f"it has: {', '.join(known)}"
            raise WrongCommandLine(f"--of-params: {of} has no parameter {name}; {hint}")
