"""`pipeline load`: loads a month, a range of months or a year of a dataset with Luigi tasks."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from luigi.task_register import Register

from pipeline.command_line import WrongCommandLine
from pipeline.commands import run_luigi
from pipeline.datasets import Dataset, format_month
from pipeline.datasets.month_range import Months
from pipeline.settings import SourceSettings
from pipeline.tasks.load import load_task


@dataclass(frozen=True)
class LoadRequest:
    """What to load, into which warehouses and how. An empty `base_url` means the configured one."""

    dataset: Dataset
    months: Months | None
    warehouses: tuple[str, ...]
    workers: int = 1
    force: bool = False
    source: str = ""
    base_url: str = ""
    max_bad_rows: int = 0

    def arguments(self, warehouse: str) -> list[str]:
        """Returns the arguments for `luigi --module pipeline`."""
        task, given = load_task(warehouse, self.dataset), self.parameters()
        base = ["--source-base-url", self.base_url] if self.base_url else []
        common = [*base, *(["--workers", str(self.workers)] if self.workers > 1 else [])]
        if self.months is None or self.months.is_one:
            month = ["--taxi", self.dataset.name, "--month", format_month(self.months.first)] if self.months else []
            return [task, *month, *(word for name, value in given.items() for word in _option(name, value)), *common]
        of_params = json.dumps({"taxi": self.dataset.name, **given})
        span = ["--start", format_month(self.months.first), "--stop", format_month(self.months.stop)]
        return ["RangeMonthly", "--of", task, "--of-params", of_params, *span, *common]

    def parameters(self) -> dict[str, object]:
        """Returns the parameters of the task that differ from their defaults."""
        known = {"source": self.source, "max_bad_rows": self.max_bad_rows, "force": self.force}
        return {name: value for name, value in known.items() if value}


def _option(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, str(value)]


def run(request: LoadRequest) -> int:
    """Loads into each warehouse and returns the highest of Luigi's exit codes.

    :raises WrongCommandLine: if the months are missing, or if months or an option do not apply to the dataset.
    """
    _check(request)
    return max(run_luigi(request.arguments(warehouse)) for warehouse in request.warehouses)


def wanted_months(dataset: Dataset, months: Months | None, base_url: str) -> Months | None:
    """Returns the months to load: those that the publisher may have, or for another source those that have begun.

    Prints a message if it omits months. Does not check a single month; its task reports if it is not available.

    :raises PipelineError: if no month is left.
    """
    if months is None or months.is_one:
        return months
    settings = SourceSettings(base_url=base_url) if base_url else SourceSettings()
    if settings.are_publishers():
        found, why = months.published(dataset), "published"
    else:
        found, why = months.until_now(), "past or present"
    if found != months:
        print(f"{dataset.name}: of {months}, {found} is {why}; the rest is left out", file=sys.stderr)
    return found


def _check(request: LoadRequest) -> None:
    dataset = request.dataset
    if dataset.is_monthly and request.months is None:
        raise WrongCommandLine(f"which months of {dataset.name}? For example: pipeline load {dataset.name} 2020-04")
    if request.months and not dataset.is_monthly:
        raise WrongCommandLine(f"{dataset.name} is one file and has no months: pipeline load {dataset.name}")
    known = [source.name for source in dataset.sources]
    if request.source and request.source not in known:
        raise WrongCommandLine(f"{dataset.name} has no source called '{request.source}'; it has: {', '.join(known)}")
    for task in (load_task(warehouse, dataset) for warehouse in request.warehouses):
        parameters = dict(Register.get_task_cls(task).get_params())
        for name in request.parameters():
            if name not in parameters:
                raise WrongCommandLine(f"{task} does not take --{name.replace('_', '-')}")
