"""Parameters of tasks and settings that refuse, in words, what cannot be."""

from __future__ import annotations

import math
from typing import Any

import luigi

from pipeline.errors import PipelineError


class CountParameter(luigi.IntParameter):
    """A whole number that is not less than `least`.

    :raises ValueError: for a text that is none; PipelineError for any other value.
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
    """A number of seconds, minutes or hours, not below 0.

    :raises ValueError: for a text that is none.
    """

    def parse(self, x: str) -> float:
        try:
            number = float(x)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise ValueError(f"'{x}' is not a number from 0 on")
        return number
