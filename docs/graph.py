"""Draws README's graph of the tasks from the tasks themselves: `make graph`."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
from luigi.tools.range import RangeMonthly

import pipeline.tasks

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)
EXAMPLE = {"taxi": ["green"], "month": [datetime.date(2019, 1, 1)]}


def graph() -> str:
    """The tasks as a Mermaid flowchart: what each is, and what it requires."""
    classes = [getattr(pipeline.tasks, name) for name in pipeline.tasks.__all__]
    lines = ["flowchart LR", "    source[(release site,<br>mirror or folder)]"]
    lines += [f'    {task.__name__}["<b>{task.__name__}</b><br>{meaning(task)}"]' for task in classes]
    for task in classes:
        if issubclass(task, RangeMonthly):
            lines.append(f"    {task.__name__} -. each month .-> LoadTripdata")
        else:
            lines += [f"    {name} --> {task.__name__}" for name in requirements(task)]
    return "\n".join(lines) + "\n"


def meaning(task: type[luigi.Task]) -> str:
    """What a task's docstring says of it, without examples and asides."""
    assert task.__doc__
    return re.split(r"[.,;:](?:\s|$)", task.__doc__.strip())[0].replace('"', "#quot;")


def requirements(task: type[luigi.Task]) -> list[str]:
    """The names of the tasks that a task requires, whatever its parameters; of those that require none, the source."""
    found = {type(required).__name__ for example in examples(task) for required in example.deps()}
    return sorted(found) or (["source"] if task.__module__.endswith(".extract") else [])


def examples(task: type[luigi.Task]) -> Iterator[luigi.Task]:
    """The task for one dataset and month, with every choice of its other parameters."""
    values: dict[str, list[Any]] = {
        name: EXAMPLE.get(name) or sorted(parameter._choices)
        for name, parameter in task.get_params()
        if name in EXAMPLE or isinstance(parameter, luigi.ChoiceParameter)
    }
    return (task(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*values.values()))


if __name__ == "__main__":
    README.write_text(BLOCK.sub(lambda _: graph(), README.read_text()))
