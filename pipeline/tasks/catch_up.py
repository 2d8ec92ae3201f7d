"""Catching up: every month that is published and not yet done, and no complaint about those that are to come."""

from __future__ import annotations

import datetime
import logging

import luigi
from luigi.tools.range import RangeMonthly

from pipeline.datasets import Dataset, Release, dataset_named, format_month
from pipeline.errors import PipelineError
from pipeline.extract.availability import published_months
from pipeline.settings import SourceSettings

logger = logging.getLogger("luigi-interface")


class CatchUpMonthly(RangeMonthly):
    """RangeMonthly that leaves out what the source does not have: told as a warning if later months are there.

    :raises PipelineError: when the source has none of the months, or cannot be asked.
    """

    # Not Luigi's defaults, which leave old months out in silence.
    months_back = luigi.IntParameter(default=1200, description="how many months before now to look at, at most")
    task_limit = luigi.IntParameter(default=1200, description="how many months to require, at most")
    param_name: str = luigi.Parameter(  # type: ignore[assignment]
        default="month", positional=False, description="which parameter takes the month"
    )

    def missing_datetimes(self, finite_datetimes: list[datetime.datetime]) -> list[datetime.datetime]:
        """The months that are published and not complete."""
        settings = SourceSettings()
        missing = [moment.date() for moment in super().missing_datetimes(finite_datetimes)]
        releases = [Release(self._dataset, month) for month in missing]
        published = published_months(releases, settings.places, settings.http_options())
        there = {moment.date() for moment in finite_datetimes} - set(missing) | set(published)
        if finite_datetimes and not there:
            raise PipelineError(
                f"none of the months {_spelled(missing)} of {self._dataset.name} is at the source;"
                " check --source-base-url"
            )
        absent = [month for month in missing if month not in there]
        self._log_absent(
            [month for month in absent if month < max(there)], [month for month in absent if month > max(there)]
        )
        return [datetime.datetime.combine(month, datetime.time()) for month in published]

    @property
    def _dataset(self) -> Dataset:
        if "taxi" not in self.of_params:
            raise PipelineError("""--of-params must name the dataset, such as '{"taxi":"green"}'""")
        return dataset_named(self.of_params["taxi"])

    def _log_absent(self, holes: list[datetime.date], to_come: list[datetime.date]) -> None:
        if holes:
            logger.warning("%s: the source lacks %s, though it has later months", self._dataset.name, _spelled(holes))
        if to_come:
            logger.info("%s: not published yet: %s", self._dataset.name, _spelled(to_come))


def _spelled(months: list[datetime.date]) -> str:
    names = [format_month(month) for month in months]
    return ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]} ({len(names)} months)"
