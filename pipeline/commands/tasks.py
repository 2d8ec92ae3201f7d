"""`pipeline load`, `build` and `report`: run Luigi tasks and return the highest exit code; `tasks`: lists all tasks."""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
import webbrowser
from collections.abc import Iterator, Mapping

import luigi
from luigi.task_register import Register
from luigi.tools.range import RangeMonthly

import pipeline.tasks
from pipeline.command_line import WrongCommandLine
from pipeline.commands import (
    Commands,
    add_command,
    add_dataset,
    add_months,
    add_warehouses,
    argument,
    check_months,
    luigi_line,
    run_luigi,
)
from pipeline.datasets import Dataset, all_datasets, dataset_named
from pipeline.datasets.month_range import Months
from pipeline.parameters import CountParameter, option_name
from pipeline.settings import SourceSettings, StorageSettings
from pipeline.tasks.base import WAREHOUSE_CHOICES
from pipeline.tasks.load import load_arguments, load_task

_EXAMPLE = {"taxi": "green", "month": "2020-04", "warehouse": "postgres"}
_RANGE = ["--of", "LoadTripdata", "--of-params", '{"taxi":"green"}', "--start", "2020-03", "--stop", "2020-08"]
_INHERITED = ("of", "of_params", "start", "stop")  # the parameters of a range that are shown
_WIDTH = 100


def add_commands(commands: Commands) -> None:
    """Declares the commands."""
    command = add_command(commands, "load", "load a month, a range of months or a year of a dataset", _load)
    add_dataset(command, all_datasets())
    add_months(command)
    add_warehouses(command)
    command.add_argument(
        "--workers",
        type=argument(CountParameter(least=1).parse),
        default=1,
        metavar="N",
        help="how many months to load at a time (default: 1)",
    )
    command.add_argument("--force", action="store_true", help="extract and load again, and replace what is loaded")
    command.add_argument(
        "--source",
        default="",
        metavar="SOURCE",
        help="mirror or tlc: the source to use (default: depends on the month)",
    )
    command.add_argument(
        "--source-base-url",
        default="",
        metavar="URL",
        help="take the files from this URL or folder instead of [source] base_url",
    )
    command.add_argument(
        "--source-tlc-base-url",
        default="",
        metavar="URL",
        help="the same for [source] tlc_base_url",
    )
    command.add_argument(
        "--max-bad-rows",
        type=argument(CountParameter().parse),
        metavar="N",
        help="how many malformed rows may be set aside before a month fails (default: [LoadTripdata] max_bad_rows)",
    )

    command = add_command(commands, "build", "build the marts from what is loaded, with dbt", _build)
    add_warehouses(command)
    command.add_argument("--full-refresh", action="store_true", help="rebuild everything, even if it is up to date")

    command = add_command(commands, "report", "write the report on the marts, and print where it is", _report)
    add_warehouses(command)
    command.add_argument("--open", action="store_true", help="open it in a browser")

    add_command(commands, "tasks", "list every task with its parameters and an example", _list_tasks)


def _load(arguments: argparse.Namespace) -> int:
    a, dataset = arguments, dataset_named(arguments.dataset)
    check_months("pipeline load", dataset, a.months)
    settings = {"base_url": a.source_base_url, "tlc_base_url": a.source_tlc_base_url}
    urls = {name: url for name, url in settings.items() if url}
    months = _months_to_load(dataset, a.months, SourceSettings(**urls)) if a.months else None
    given = {"source": a.source or None, "max_bad_rows": a.max_bad_rows, "force": a.force or None}
    parameters = {name: value for name, value in given.items() if value is not None}
    warehouses = WAREHOUSE_CHOICES[a.warehouse]
    for name in warehouses:
        _check(dataset, load_task(name, dataset), parameters)
    places = [word for name, url in urls.items() for word in (option_name(f"source_{name}"), url)]
    lines = [[*load_arguments(name, dataset, months, parameters, a.workers), *places] for name in warehouses]
    return max(run_luigi(line) for line in lines)


def _months_to_load(dataset: Dataset, months: Months, settings: SourceSettings) -> Months:
    """Returns those of the months that a source may have; prints a message if it omits others.

    :raises PipelineError: if no month is left.
    """
    found = settings.possible_months(dataset, months)
    if found != months:
        print(f"{dataset.name}: of {months}, only {found} can be at the source", file=sys.stderr)
    return found


def _check(dataset: Dataset, task: str, parameters: Mapping[str, object]) -> None:
    """:raises WrongCommandLine: if an option does not apply to the dataset."""
    source, known = parameters.get("source"), [source.name for source in dataset.sources]
    if source and source not in known:
        raise WrongCommandLine(f"{dataset.name} has no source called '{source}'; it has: {', '.join(known)}")
    declared = dict(Register.get_task_cls(task).get_params())
    for name in parameters:
        if name not in declared:
            raise WrongCommandLine(f"{task} does not take {option_name(name)}")


def _build(arguments: argparse.Namespace) -> int:
    options = ["--full-refresh"] if arguments.full_refresh else []
    names = WAREHOUSE_CHOICES[arguments.warehouse]
    return max(run_luigi(["DbtBuild", "--warehouse", name, *options]) for name in names)


def _report(arguments: argparse.Namespace) -> int:
    worst = 0
    for name in WAREHOUSE_CHOICES[arguments.warehouse]:
        code = run_luigi(["Report", "--warehouse", name])
        worst = max(worst, code)
        if code == 0:
            page = StorageSettings().report_page(name).resolve().as_uri()
            print(page, flush=True)
            if arguments.open and not webbrowser.open(page):
                print("no browser could be opened; open the address above yourself")
    return worst


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
            yield f"  {option_name(name):<16} {_description(parameter)}"
    yield f"  e.g. {luigi_line(example(task))}"


def _description(parameter: luigi.Parameter[object]) -> str:
    return " ".join((parameter.description or "").split(". DEFAULT")[0].split())
