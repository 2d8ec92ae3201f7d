"""Parameter types of tasks and settings that reject invalid values with clear messages."""

from __future__ import annotations

import math
from typing import Any

import luigi

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
