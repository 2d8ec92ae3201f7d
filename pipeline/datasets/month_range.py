"""Ranges of months on the command line."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from dateutil.relativedelta import relativedelta

from pipeline.datasets.spec import Dataset, format_month, parse_month
from pipeline.errors import PipelineError

_MONTH = relativedelta(months=1)


@dataclass(frozen=True)
class Months:
    """A range of months, the last one included."""

    first: datetime.date
    last: datetime.date

    @classmethod
    def parse(cls, text: str) -> Months:
        """Parses 2020-03, 2020-03..2020-07, 2020 or 2019..2020.

        :raises ValueError: if the text has another format or the range is empty.
        """
        first, dots, last = text.partition("..")
        try:
            months = cls(_month(first, of_year="01"), _month(last if dots else first, of_year="12"))
        except ValueError:
            raise ValueError(
                f"'{text}' is not a month (2020-04), a range (2020-03..2020-07) or a year (2020)"
            ) from None
        if months.last < months.first:
            raise ValueError(f"'{text}' is empty: {last} is before {first}")
        return months

    @property
    def is_one(self) -> bool:
        return self.first == self.last

    @property
    def stop(self) -> datetime.date:
        """The month after the last one, the exclusive end of Luigi's ranges."""
        return self.last + _MONTH

    def __contains__(self, month: datetime.date) -> bool:
        return self.first <= month <= self.last

    def __iter__(self) -> Iterator[datetime.date]:
        month = self.first
        while month <= self.last:
            yield month
            month += _MONTH

    def __str__(self) -> str:
        """Returns the range in the format of `parse`."""
        return format_month(self.first) if self.is_one else f"{format_month(self.first)}..{format_month(self.last)}"

    def until_now(self) -> Months:
        """Returns the months that have begun.

        :raises PipelineError: if there are none.
        """
        now = datetime.datetime.now(datetime.UTC).date().replace(day=1)
        if self.first > now:
            raise PipelineError(f"{self} is in the future")
        return Months(self.first, min(self.last, now))

    def published(self, dataset: Dataset) -> Months:
        """Returns the months that a publisher may have and that can be loaded.

        :raises PipelineError: if there are none.
        """
        first = max(self.first, dataset.first_month or self.first)
        last = min(self.last, dataset.last_month or self.last)
        if last < first:
            reason = "".join(f" ({source.before})" for source in dataset.sources if source.before)
            raise PipelineError(f"{self} of {dataset.name} cannot be loaded, only {dataset.published_months()}{reason}")
        return Months(first, last).until_now()


def _month(text: str, of_year: str) -> datetime.date:
    return parse_month(f"{text}-{of_year}" if text.isdecimal() else text)
