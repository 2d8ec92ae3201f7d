"""A range of months, as the words of a command name it."""

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
        """Reads 2020-03, 2020-03..2020-07, 2020 or 2019..2020.

        :raises ValueError: when the text is none of them, or the range is empty.
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
        """The month after the last one, where Luigi's ranges stop."""
        return self.last + _MONTH

    def __contains__(self, month: datetime.date) -> bool:
        return self.first <= month <= self.last

    def __iter__(self) -> Iterator[datetime.date]:
        month = self.first
        while month <= self.last:
            yield month
            month += _MONTH

    def __str__(self) -> str:
        """As `parse` reads it."""
        return format_month(self.first) if self.is_one else f"{format_month(self.first)}..{format_month(self.last)}"

    def begun(self) -> Months:
        """Those of them that have begun.

        :raises PipelineError: when that is none.
        """
        now = datetime.datetime.now(datetime.UTC).date().replace(day=1)
        if self.first > now:
            raise PipelineError(f"{self} is in the future")
        return Months(self.first, min(self.last, now))

    def published(self, dataset: Dataset) -> Months:
        """Those of them that the publisher may have.

        :raises PipelineError: when that is none.
        """
        first = max(self.first, dataset.first_month or self.first)
        last = min(self.last, dataset.last_month or self.last)
        if last < first:
            raise PipelineError(f"{dataset.name} is published for {dataset.published_months()} only, not for {self}")
        return Months(first, last).begun()


def _month(text: str, of_year: str) -> datetime.date:
    return parse_month(f"{text}-{of_year}" if text.isdecimal() else text)
