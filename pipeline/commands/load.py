"""`pipeline load`: a month, a range of months or a year of a dataset, by the tasks that `luigi` runs."""

from __future__ import annotations

import datetime
import json
import sys
from dataclasses import dataclass

from dateutil.relativedelta import relativedelta

from pipeline.commands import run_luigi
from pipeline.datasets import Dataset, dataset_named, format_month, parse_month
from pipeline.errors import PipelineError
from pipeline.tasks.load import load_task

_MONTH = relativedelta(months=1)


@dataclass(frozen=True)
class Months:
    """A range of months, the last one included."""

    first: datetime.date
    last: datetime.date

    @classmethod
    def parse(cls, text: str) -> Months:
        """Reads 2020-03, 2020-03..2020-07 or 2020.

        :raises ValueError: when the text is none of them, or the range is empty.
        """
        if text.isdecimal() and len(text) == 4:
            return cls(parse_month(f"{text}-01"), parse_month(f"{text}-12"))
        first, dots, last = text.partition("..")
        months = cls(parse_month(first), parse_month(last) if dots else parse_month(first))
        if months.last < months.first:
            raise ValueError(f"'{text}' is empty: {last} is before {first}")
        return months

    def within(self, dataset: Dataset) -> Months:
        """What the publisher is known to offer of them.

        :raises PipelineError: when that is none.
        """
        first = max(self.first, dataset.first_month or self.first)
        today = datetime.datetime.now(datetime.UTC).date()
        last = min(self.last, dataset.last_month or self.last, today.replace(day=1))
        if last < first:
            raise PipelineError(f"{dataset.name} is published for {dataset.published_months()} only")
        return Months(first, last)


@dataclass(frozen=True)
class Wanted:
    """What to load, from where, into which warehouses and how."""

    dataset: Dataset
    months: Months | None
    warehouses: tuple[str, ...]
    workers: int = 1
    force: bool = False
    source: str = ""

    def arguments(self, warehouse: str) -> list[str]:
        """What follows `luigi --module pipeline` on a command line that does it."""
        task = load_task(warehouse, self.dataset)
        given = {"source": self.source} if self.source else {}
        workers = ["--workers", str(self.workers)] if self.workers > 1 else []
        if self.months is None or self.months.first == self.months.last:
            month = ["--taxi", self.dataset.name, "--month", format_month(self.months.first)] if self.months else []
            options = [word for name, value in given.items() for word in (f"--{name}", value)]
            return [task, *month, *options, *(["--force"] if self.force else []), *workers]
        of_params = {"taxi": self.dataset.name, **given, **({"force": True} if self.force else {})}
        span = ["--start", format_month(self.months.first), "--stop", format_month(self.months.last + _MONTH)]
        return ["RangeMonthly", "--of", task, "--of-params", json.dumps(of_params), *span, *workers]


def run(
    name: str, months: Months | None, warehouses: tuple[str, ...], workers: int, force: bool, source: str | None
) -> int:
    """Returns Luigi's exit code, the highest where there are two warehouses.

    :raises PipelineError: when a month is missing, given for a dataset that has none, or was never published.
    """
    dataset = dataset_named(name)
    if dataset.is_monthly != (months is not None):
        example = f"pipeline load {name} 2020-04"
        raise PipelineError(f"{name}: which months? {example}" if dataset.is_monthly else f"{name} has no months")
    if months and months.first != months.last:
        asked, months = months, months.within(dataset)
        if months != asked:
            print(f"{name}: {format_month(months.first)}..{format_month(months.last)} is published", file=sys.stderr)
    if source and source not in (known := [one.name for one in dataset.sources]):
        raise PipelineError(f"{name} has no source called '{source}'; it has: {', '.join(known)}")
    wanted = Wanted(dataset, months, warehouses, workers, force, source or "")
    return max(run_luigi(wanted.arguments(warehouse)) for warehouse in warehouses)
