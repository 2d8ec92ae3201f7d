"""Parameter types of tasks and settings that reject invalid values with clear messages."""

from __future__ import annotations

import datetime
import math
from typing import Any

import luigi

from pipeline.datasets import monthly_names, parse_month
from pipeline.datasets.spec import MIRROR, TLC
from pipeline.errors import PipelineError


class CountParameter(luigi.IntParameter):
    """A whole number that is at least `least`.

    :raises ValueError: for an invalid text; PipelineError for an invalid value of another type.
    """

    def __init__(self, *, least: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.least = least

    def parse(self, x: str) -> int:
        if not x.strip().lstrip("-").isdecimal() or int(x) < self.least:
            raise ValueError(f"'{x}' is not a whole number from {self.least} on")
        return int(x)

    def normalize(self, x: int) -> int:
        if isinstance(x, bool) or not isinstance(x, int) or x < self.least:
            raise PipelineError(f"{self._attribute_name} {x!r}: not a whole number from {self.least} on")
        return x


class DurationParameter(luigi.FloatParameter):
    """A non-negative number of seconds, minutes or hours.

    :raises ValueError: for an invalid text.
    """

    def parse(self, x: str) -> float:
        try:
            number = float(x)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise ValueError(f"'{x}' is not a number from 0 on")
        return number


class FlagParameter(luigi.BoolParameter):
    """True or false. Its option needs a value, as in `--storage-keep-raw false`."""

    parsing = luigi.BoolParameter.EXPLICIT_PARSING


class TaxiParameter(luigi.ChoiceParameter[str]):
    """The name of a dataset with one file per month."""

    def __init__(self) -> None:
        super().__init__(choices=monthly_names(), description="which dataset")

    def normalize(self, x: str) -> str:
        names = monthly_names()
        if x not in names:
            raise PipelineError(f"--taxi {x}: no monthly dataset is called that; there are: {', '.join(names)}")
        return x


class MonthParameter(luigi.MonthParameter):
    """A month, such as 2019-01."""

    def __init__(self, **options: Any) -> None:
        super().__init__(description="which month, such as 2019-01", **options)

    def parse(self, x: str) -> datetime.date:
        try:
            return parse_month(x)
        except ValueError:
            raise PipelineError(f"--month {x}: not a month such as 2019-01") from None


class SourceParameter(luigi.ChoiceParameter[str]):
    """The source of a file."""

    def __init__(self) -> None:
        super().__init__(
            choices=["", MIRROR, TLC],
            default="",
            significant=False,
        )
        self.description = f"the only source to try: {MIRROR} or {TLC} (default: [source] prefer, or else by the month)"
