"""Checks the arguments of `luigi`, and reports errors in one line with a suggestion.

Luigi itself prints a traceback or all of its options. As it imports the package before it parses the arguments, they
can be checked first.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register

from pipeline.errors import PipelineError, nearest
from pipeline.parameters import CountParameter, parsed
from pipeline.settings import exit_codes

_WRONG_ARGUMENT = 2  # as argparse's; the others are those of [retcode]
# Luigi's options that are whole numbers, and their minimum.
_LUIGI_COUNTS = {"workers": 1, "scheduler-port": 1, "lock-size": 1, "parallel-scheduling-processes": 0}
_RANGES = ("RangeMonthly", "CatchUpMonthly")
_OPTION = re.compile(r"-\D")  # rather than a negative number

Options: TypeAlias = Mapping[str, luigi.Parameter[Any]]


class WrongCommandLine(Exception):
    """An invalid command line, with its exit code."""

    def __init__(self, message: str, code: int = _WRONG_ARGUMENT):
        super().__init__(message)
        self.code = code


class WrongValue(WrongCommandLine):
    """A value that Luigi would not accept, or one that is missing; the exit code is the one that Luigi would have."""

    def __init__(self, message: str):
        super().__init__(message, exit_codes().unhandled_exception)


def is_luigi() -> bool:
    """Returns whether this process is `luigi` or `python -m luigi` with `--module pipeline` or `--module=pipeline`."""
    program, words = Path(sys.argv[0]), sys.argv[1:]
    if "luigi" not in (program.stem, program.parent.name):
        return False
    return "--module=pipeline" in words or ("--module", "pipeline") in itertools.pairwise(words)


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
    tasks, options = Register.task_names(), _options()
    task = _root_task(argv, options, tasks)
    own = {_option(name): parameter for name, parameter in Register.get_task_cls(task).get_params()}
    given = _given(argv, task, options, own)
    if task in _RANGES:
        _check_task_of_range(given, tasks)
    values = {name: _value(name, text, own.get(name) or options[name]) for name, text in given.items()}
    if task in _RANGES:
        _check_span(given, values)
    _check_required(task, given)


def _option(name: str) -> str:
    return name.replace("_", "-")


def _options() -> Options:
    """Returns the parameters that are options of every command: all but the root task's under their short names."""
    found: dict[str, luigi.Parameter[Any]] = {}
    for family, is_without_section, name, parameter in Register.get_all_params():
        found[_option(name if is_without_section else f"{family}_{name}")] = parameter
    return found | {name: CountParameter(least=least) for name, least in _LUIGI_COUNTS.items()}


def _arguments(argv: Sequence[str], options: Options) -> Iterator[tuple[str | None, str | None]]:
    """Yields each option's name, without dashes, with its value or None, and None with each other argument.

    Like argparse, takes the word after an unknown option for another argument.
    """
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            yield None, word
        elif equals:
            yield name, value
        elif name not in options or _is_flag(options[name]) or not rest or _OPTION.match(rest[-1]):
            yield name, None
        else:
            yield name, rest.pop()


def _is_flag(parameter: luigi.Parameter[Any]) -> bool:
    """Returns whether the parameter's option has no value."""
    return isinstance(parameter, luigi.BoolParameter) and parameter.parsing == luigi.BoolParameter.IMPLICIT_PARSING


def _root_task(argv: Sequence[str], options: Options, tasks: list[str]) -> str:
    word = next((value for name, value in _arguments(argv, options) if name is None), None)
    if word is None:
        raise WrongCommandLine("which task? `pipeline tasks` lists them, each with an example")
    if word in tasks:
        return word
    before = argv[argv.index(word) - 1]
    if before.startswith("--") and (task := next((each for each in argv if each in tasks), "")):
        raise WrongCommandLine(f"{before} is an option of {task} and follows it: {task} {before} …")
    raise WrongCommandLine(_no_task(word, tasks))


def _no_task(word: str, tasks: list[str]) -> str:
    return f"there is no task {word}; {nearest(word, tasks, 'did you mean {}? ')}`pipeline tasks` lists them"


def _given(argv: Sequence[str], task: str, options: Options, own: Options) -> dict[str, str]:
    """Returns the values of the options that have one; of a repeated option the last, as Luigi does.

    :raises WrongCommandLine: if Luigi's parser would reject an argument.
    """
    known, given = {**options, **own}, dict[str, str]()
    is_after_task, flag = False, ""
    for name, value in _arguments(argv, known):
        if name is None:
            if is_after_task or value != task:
                of_value = "An option's value follows it, in quotes if it has spaces"
                hint = f"--{flag} takes no value" if flag else of_value
                raise WrongCommandLine(f"what is '{value}' for? {hint}")
            is_after_task, flag = True, ""
            continue
        if name not in known:
            hint = nearest(name, own, "did you mean --{}?") or nearest(name, known, "did you mean --{}?")
            has = f"it has: --{', --'.join(own)}" if own else "it has none of its own"
            raise WrongCommandLine(f"{task} has no option --{name}; {hint or has}")
        flag = name if _is_flag(known[name]) else ""
        if flag and value is not None:
            raise WrongCommandLine(f"--{name}={value}: --{name} takes no value")
        if value is not None:
            given[name] = value
        elif not isinstance(known[name], luigi.BoolParameter):
            raise WrongCommandLine(f"--{name} needs a value")
    return given


def _value(name: str, text: str, parameter: luigi.Parameter[Any]) -> Any:
    try:
        return parsed(parameter, text)
    except ValueError as error:
        raise WrongValue(f"--{name}: {error}") from None
    except PipelineError as error:
        raise WrongValue(str(error)) from None


def _check_required(task: str, given: Container[str]) -> None:
    missing = [
        f"--{_option(name)} ({parameter.description})"
        for name, parameter in Register.get_task_cls(task).get_params()
        if _option(name) not in given
        and f"{task}-{_option(name)}" not in given
        and not parameter.has_task_value(task, name)
    ]
    if missing:
        raise WrongValue(f"{task} needs {' and '.join(missing)}; `pipeline tasks` has an example")


def _check_task_of_range(given: Mapping[str, str], tasks: list[str]) -> None:
    of = given.get("of", "")
    if of and of not in tasks:
        raise WrongCommandLine(f"--of {of}: {_no_task(of, tasks)}")
    if of and "of-params" in given:
        _check_of_params(of, given["of-params"])


def _check_span(given: Mapping[str, str], values: Mapping[str, Any]) -> None:
    if {"start", "stop"} <= values.keys() and values["start"] >= values["stop"]:
        span = f"--start {given['start']} --stop {given['stop']}"
        raise WrongCommandLine(
            f"{span}: no month at all, as --stop is the month after the last", exit_codes().scheduling_error
        )


def _check_of_params(of: str, text: str) -> None:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise WrongValue(f"""--of-params {text}: not JSON such as '{{"taxi":"green"}}': {error}""") from None
    if not isinstance(values, dict):
        raise WrongValue(f"""--of-params {text}: not a JSON object such as '{{"taxi":"green"}}'""")
    known = [name for name, _ in Register.get_task_cls(of).get_params()]
    for name in values:
        if name not in known:
            hint = nearest(name, known, "did you mean {}?") or f"it has: {', '.join(known)}"
            raise WrongCommandLine(f"--of-params: {of} has no parameter {name}; {hint}")
