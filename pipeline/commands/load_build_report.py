"""`pipeline load`, `build` and `report`: run Luigi tasks and return the highest of Luigi's exit codes."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from typing import Any

from luigi.task_register import Register

from pipeline.command_line import WrongCommandLine
from pipeline.commands import (
    Commands,
    add_command,
    add_dataset,
    add_months,
    add_warehouses,
    argument,
    check_months,
    run_luigi,
)
from pipeline.datasets import Dataset, all_datasets, dataset_named
from pipeline.datasets.month_range import Months
from pipeline.parameters import CountParameter
from pipeline.settings import SourceSettings, StorageSettings
from pipeline.tasks.base import WAREHOUSE_CHOICES
from pipeline.tasks.load_request import LoadRequest, months_at_source


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
        help="how many months to load at a time",
    )
    command.add_argument("--force", action="store_true", help="extract and load again, and replace what is loaded")
    command.add_argument(
        "--source",
        default="",
        metavar="SOURCE",
        help="mirror or tlc: which publisher to take the files from (default: by the month)",
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
        help="the same, instead of [source] tlc_base_url",
    )
    command.add_argument(
        "--max-bad-rows",
        type=argument(CountParameter().parse),
        metavar="N",
        help="malformed rows to set aside before a month fails",
    )

    command = add_command(commands, "build", "build the marts from what is loaded, with dbt", _build)
    add_warehouses(command)
    command.add_argument("--full-refresh", action="store_true", help="rebuild everything, even if it is up to date")

    command = add_command(commands, "report", "write the report on the marts, and print where it is", _report)
    add_warehouses(command)
    command.add_argument("--open", action="store_true", help="open it in a browser")


def _load(arguments: argparse.Namespace) -> int:
    a, dataset = arguments, dataset_named(arguments.dataset)
    check_months("pipeline load", dataset, a.months)
    urls = {"base_url": a.source_base_url, "tlc_base_url": a.source_tlc_base_url}
    months = _months_to_load(dataset, a.months, {name: url for name, url in urls.items() if url})
    requests = [
        LoadRequest(dataset, months, name, a.workers, a.force, a.source, max_bad_rows=a.max_bad_rows, **urls)
        for name in WAREHOUSE_CHOICES[a.warehouse]
    ]
    for request in requests:
        _check(request)
    return max(run_luigi(request.arguments()) for request in requests)


def _months_to_load(dataset: Dataset, months: Months | None, urls: dict[str, Any]) -> Months | None:
    """Returns those of the months that a source may have; prints a message if it omits others.

    :raises PipelineError: if no month is left.
    """
    if months is None:
        return None
    found = months_at_source(dataset, months, SourceSettings(**urls))
    if found != months:
        print(f"{dataset.name}: of {months}, only {found} can be at the source", file=sys.stderr)
    return found


def _check(request: LoadRequest) -> None:
    """:raises WrongCommandLine: if an option does not apply to the dataset."""
    dataset, known = request.dataset, [source.name for source in request.dataset.sources]
    if request.source and request.source not in known:
        raise WrongCommandLine(f"{dataset.name} has no source called '{request.source}'; it has: {', '.join(known)}")
    parameters = dict(Register.get_task_cls(request.task).get_params())
    for name in request.parameters():
        if name not in parameters:
            raise WrongCommandLine(f"{request.task} does not take --{name.replace('_', '-')}")


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
                print("no browser could be opened")
    return worst
