"""Checks the arguments of `luigi`, and reports errors in one line with a suggestion.

Luigi itself prints a traceback or all of its options. As it imports the package before it parses the arguments, they
can be checked first.
"""

from __future__ import annotations

import copy
import functools
import itertools
import sys
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register

from pipeline.datasets import format_month
from pipeline.errors import PipelineError, nearest
from pipeline.parameters import CountParameter, ObjectParameter, option_name, parsed
from pipeline.settings import exit_codes

_WRONG_ARGUMENT = 2  # as argparse's; the others are those of [retcode]
# Luigi's options that are whole numbers, and their minimum.
_LUIGI_COUNTS = {"workers": 1, "scheduler_port": 1, "lock_size": 1, "parallel_scheduling_processes": 0}
_RANGES = ("RangeMonthly", "CatchUpMonthly")


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


def set_up_parser() -> None:
    """Makes Luigi's parser reject abbreviated options, and builds it once.

    Otherwise `--source` would be short for `--source-base-url` before the task is known. Luigi builds it, with some
    hundred options, nine times for each command, which takes a tenth of a second.
    """
    build: Callable[..., ArgumentParser] = CmdlineParser._build_parser

    @functools.cache
    def build_once(root_task: str | None, help_all: bool, _tasks: tuple[str, ...]) -> ArgumentParser:
        parser = build(root_task, help_all)
        parser.allow_abbrev = False
        return parser

    def parser_of(root_task: str | None = None, help_all: bool = False) -> ArgumentParser:
        return build_once(root_task, help_all, tuple(Register.task_names()))

    CmdlineParser._build_parser = staticmethod(parser_of)  # type: ignore[method-assign]


def check_command_line(argv: Sequence[str]) -> None:
    """Checks the arguments of `luigi` as far as possible without running a task.

    :raises WrongCommandLine: if they are invalid; the message contains a suggestion if there is a similar name.
    """
    if {"--help", "--help-all"} & set(argv):
        return
    if "-h" in argv:
        raise WrongCommandLine("-h: --help, after a task, shows its options, and --help-all those of all tasks")
    task = _root_task(argv)
    values = _values(argv, task)
    if task in _RANGES:
        _check_range(values)
    _check_required(task, values)


def _parsed(argv: Sequence[str], task: str | None = None) -> tuple[ArgumentParser, Namespace, list[str]]:
    """Returns Luigi's parser of the arguments of a task, what it finds, and the words that it does not know."""
    parser = copy.copy(CmdlineParser._build_parser(task))
    parser.exit_on_error = False
    try:
        return parser, *parser.parse_known_args(argv)
    except ArgumentError as error:
        option = error.argument_name
        with_value = next((word for word in argv if word.startswith(f"{option}=")), None)
        problem = f"{with_value}: {option} takes no value" if with_value else f"{option} needs a value"
        raise WrongCommandLine(problem) from None


def _root_task(argv: Sequence[str]) -> str:
    _, found, _ = _parsed(argv)
    word, tasks = found.root_task, Register.task_names()
    if word is None:
        raise WrongCommandLine("no task is given; `pipeline tasks` lists them, each with an example")
    if word in tasks:
        if issubclass(Register.get_task_cls(word), luigi.Config):
            raise WrongCommandLine(f"{word} is a section of luigi.cfg, not a task; `pipeline tasks` lists them")
        return str(word)
    before = _word_before(word, argv)
    if before.startswith("--") and (task := next((each for each in argv if each in tasks), "")):
        raise WrongCommandLine(f"{before} is an option of {task} and follows it: {task} {before} …")
    raise WrongCommandLine(_no_task(word))


def _word_before(word: str, argv: Sequence[str]) -> str:
    return next((each for each, following in itertools.pairwise(argv) if following == word), "")


def _no_task(word: str) -> str:
    similar = nearest(word, Register.task_names(), "did you mean {}? ")
    return f"there is no task {word or repr(word)}; {similar}`pipeline tasks` lists them"


def _values(argv: Sequence[str], task: str) -> dict[str, Any]:
    """Returns the values of the options that have one; of a repeated option the last, as Luigi does.

    :raises WrongCommandLine: if Luigi would reject an argument or a value.
    """
    parser, found, unknown = _parsed(argv, task)
    if unknown:
        raise WrongCommandLine(_unknown(unknown[0], argv, task, parser))
    parameters = {f"{family}_{name}": parameter for family, _, name, parameter in Register.get_all_params()}
    parameters |= {f"core_{name}": CountParameter(least=least) for name, least in _LUIGI_COUNTS.items()}
    parameters |= dict(Register.get_task_cls(task).get_params())
    if task in _RANGES:
        parameters["of_params"] = ObjectParameter(example={"taxi": "green"})
    return {
        option: _value(option, text, parameters[action.dest])
        for option, action in parser._option_string_actions.items()
        if isinstance(text := getattr(found, action.dest), str)
    }


def _unknown(word: str, argv: Sequence[str], task: str, parser: ArgumentParser) -> str:
    """Returns the message about a word that the parser does not know."""
    known = parser._option_string_actions
    if not word.startswith("--"):
        before = _word_before(word, argv)
        is_flag = before in known and known[before].nargs == 0
        of_value = "An option's value follows it, in quotes if it has spaces"
        return f"what is '{word}' for? {f'{before} takes no value' if is_flag else of_value}"
    option, own = word.partition("=")[0], [option_name(name) for name, _ in Register.get_task_cls(task).get_params()]
    hint = nearest(option, own, "did you mean {}?") or nearest(option, known, "did you mean {}?")
    has = f"it has: {', '.join(own)}" if own else "it has none of its own"
    return f"{task} has no option {option}; {hint or has}"


def _value(option: str, text: str, parameter: luigi.Parameter[Any]) -> Any:
    if isinstance(parameter, luigi.TaskParameter) and text not in Register.task_names():
        raise WrongCommandLine(f"{option} {text}: {_no_task(text)}")
    try:
        return parsed(parameter, text)
    except ValueError as error:
        raise WrongValue(f"{option}: {error}") from None
    except PipelineError as error:
        raise WrongValue(str(error)) from None


def _check_required(task: str, values: Mapping[str, Any]) -> None:
    missing = [
        f"{option_name(name)} ({parameter.description})"
        for name, parameter in Register.get_task_cls(task).get_params()
        if not {option_name(name), option_name(f"{task}_{name}")} & values.keys()
        and not parameter.has_task_value(task, name)
    ]
    if missing:
        raise WrongValue(f"{task} needs {' and '.join(missing)}; `pipeline tasks` has an example")


def _check_range(values: Mapping[str, Any]) -> None:
    of, start, stop = (values.get(option) for option in ("--of", "--start", "--stop"))
    known = [name for name, _ in of.get_params()] if of else []
    for name in values.get("--of-params", ()):
        if of and name not in known:
            hint = nearest(name, known, "did you mean {}?") or f"it has: {', '.join(known)}"
            raise WrongCommandLine(f"--of-params: {of.task_family} has no parameter {name}; {hint}")
    if start and stop and start >= stop:
        span = f"--start {format_month(start)} --stop {format_month(stop)}"
        raise WrongCommandLine(
            f"{span} contains no month: --stop is the month after the last one", exit_codes().scheduling_error
        )
