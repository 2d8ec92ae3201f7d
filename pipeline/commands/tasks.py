"""`pipeline tasks`: lists every task with its parameters and an example."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Iterator

import luigi
import luigi.parameter
from luigi.tools.range import RangeMonthly

import pipeline.tasks
from pipeline.commands import Commands, add_command, luigi_line

_EXAMPLE = {"taxi": "green", "month": "2020-04", "warehouse": "postgres"}
_RANGE = ["--of", "LoadTripdata", "--of-params", '{"taxi":"green"}', "--start", "2020-03", "--stop", "2020-08"]
_INHERITED = ("of", "of_params", "start", "stop")  # the parameters of a range that are shown
_WIDTH = 100


def add_commands(commands: Commands) -> None:
    """Declares the command."""
    add_command(commands, "tasks", "list every task with its parameters and an example", _list_tasks)


def _list_tasks(_: argparse.Namespace) -> int:
    tasks = [RangeMonthly, *(getattr(pipeline.tasks, name) for name in pipeline.tasks.__all__)]
    print("\n\n".join("\n".join(_describe(task)) for task in sorted(tasks, key=lambda task: task.__name__)))
    print("\nSettings are options too, such as --postgres-schema: luigi --module pipeline LoadTripdata --help-all")
    return 0


def example(task: type[luigi.Task]) -> list[str]:
    """Returns example arguments for `luigi --module pipeline`."""
    if issubclass(task, RangeMonthly):
        return [task.__name__, *_RANGE]
    given = [(name, _EXAMPLE[name]) for name, _ in task.get_params() if name in _EXAMPLE]
    return [task.__name__, *(word for name, value in given for word in (f"--{name}", value))]


def _describe(task: type[luigi.Task]) -> Iterator[str]:
    description = (
        "A task for each month of a range that is not complete." if task is RangeMonthly else inspect.getdoc(task)
    )
    yield task.__name__
    paragraph = " ".join((description or "").partition("\n\n")[0].split())
    yield textwrap.fill(paragraph, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    for name, parameter in task.get_params():
        if not issubclass(task, RangeMonthly) or name in _INHERITED:
            option = f"  --{name.replace('_', '-')}"
            yield f"{option:<18} {_description(parameter)}"
    yield f"  e.g. {luigi_line(example(task))}"


def _description(parameter: luigi.Parameter[object]) -> str:
    return " ".join((parameter.description or "").split(". DEFAULT")[0].split())
