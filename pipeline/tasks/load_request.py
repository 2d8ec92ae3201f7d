"""Requests to load months of a dataset, as a command of `luigi`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pipeline.datasets import Dataset, format_month
from pipeline.datasets.month_range import Months
from pipeline.settings import SourceSettings
from pipeline.tasks.load import load_task


@dataclass(frozen=True)
class LoadRequest:
    """What to load into a warehouse, and how. What is empty or None is as configured."""

    dataset: Dataset
    months: Months | None
    warehouse: str
    workers: int = 1
    force: bool = False
    source: str = ""
    base_url: str = ""
    max_bad_rows: int | None = None
    tlc_base_url: str = ""

    @property
    def task(self) -> str:
        """The name of the task that loads a month, or the only file of the dataset."""
        return load_task(self.warehouse, self.dataset)

    def arguments(self) -> list[str]:
        """Returns the arguments for `luigi --module pipeline`."""
        given = self.parameters()
        urls = {"--source-base-url": self.base_url, "--source-tlc-base-url": self.tlc_base_url}
        places = [word for option, url in urls.items() if url for word in (option, url)]
        common = [*places, *(["--workers", str(self.workers)] if self.workers > 1 else [])]
        if self.months is None or self.months.is_one:
            month = ["--taxi", self.dataset.name, "--month", str(self.months)] if self.months else []
            options = [word for name, value in given.items() for word in _option(name, value)]
            return [self.task, *month, *options, *common]
        of_params = json.dumps({"taxi": self.dataset.name, **given})
        span = ["--start", format_month(self.months.first), "--stop", format_month(self.months.stop)]
        return ["RangeMonthly", "--of", self.task, "--of-params", of_params, *span, *common]

    def parameters(self) -> dict[str, object]:
        """Returns the parameters of the task that are given."""
        known = {"source": self.source or None, "max_bad_rows": self.max_bad_rows, "force": self.force or None}
        return {name: value for name, value in known.items() if value is not None}


def months_at_source(dataset: Dataset, months: Months, settings: SourceSettings) -> Months:
    """Returns those of the months that the publishers have, or for a mirror of one's own those that have begun.

    :raises PipelineError: if there are none.
    """
    return months.published(dataset) if settings.are_publishers() else months.until_now()


def _option(name: str, value: object) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, str(value)]
