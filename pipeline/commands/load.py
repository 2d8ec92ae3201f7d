"""`pipeline load`: a month, a range of months or a year of a dataset, by the tasks that `luigi` runs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from luigi.task_register import Register

from pipeline.command_line import WrongCommandLine
from pipeline.commands import run_luigi
from pipeline.datasets import Dataset, format_month
from pipeline.datasets.months import Months
from pipeline.settings import SourceSettings
from pipeline.tasks.load import load_task


@dataclass(frozen=True)
class Wanted:
    """What to load, from where, into which warehouses and how. No `base_url`: the configured one."""

    dataset: Dataset
    months: Months | None
    warehouses: tuple[str, ...]
    workers: int = 1
    force: bool = False
    source: str = ""
    base_url: str = ""
    max_bad_rows: int = 0

    def arguments(self, warehouse: str) -> list[str]:
        """What follows `luigi --module pipeline` on a command line that does it."""
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
        """The parameters of the task that differ from their defaults."""
        known = {"source": self.source, "max_bad_rows": self.max_bad_rows, "force": self.force}
        return {name: value for name, value in known.items() if value}


def _option(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, str(value)]


def run(wanted: Wanted) -> int:
    """Returns Luigi's exit code, the highest where there are two warehouses.

    :raises WrongCommandLine: when a month is missing, given for a dataset that has none, or an option is not for it.
    :raises PipelineError: when none of the months can be at the source.
    """
    _check(wanted)
    return max(run_luigi(wanted.arguments(warehouse)) for warehouse in wanted.warehouses)


def wanted_months(dataset: Dataset, months: Months | None, base_url: str) -> Months | None:
    """The months to ask for: of the publisher those that it may have, of a source of one's own all that have begun.

    A single month is asked for as it is, so that the task says where it is not. Says when it leaves some out.

    :raises PipelineError: when none is left.
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


def _check(wanted: Wanted) -> None:
    dataset = wanted.dataset
    if dataset.is_monthly and wanted.months is None:
        raise WrongCommandLine(f"which months of {dataset.name}? For example: pipeline load {dataset.name} 2020-04")
    if wanted.months and not dataset.is_monthly:
        raise WrongCommandLine(f"{dataset.name} is one file and has no months: pipeline load {dataset.name}")
    known = [source.name for source in dataset.sources]
    if wanted.source and wanted.source not in known:
        raise WrongCommandLine(f"{dataset.name} has no source called '{wanted.source}'; it has: {', '.join(known)}")
    for task in (load_task(warehouse, dataset) for warehouse in wanted.warehouses):
        parameters = dict(Register.get_task_cls(task).get_params())
        for name in wanted.parameters():
            if name not in parameters:
                raise WrongCommandLine(f"{task} does not take --{name.replace('_', '-')}")
