"""Parameters that explain in one line what was wrong with a value."""

from __future__ import annotations

import datetime
from typing import Any

import luigi

from pipeline.datasets import monthly_names
from pipeline.errors import PipelineError


class TaxiParameter(luigi.ChoiceParameter[str]):
    """The name of a dataset that is released a file a month."""

    def __init__(self) -> None:
        super().__init__(choices=monthly_names(), description="which dataset")

    def normalize(self, x: str) -> str:
        names = monthly_names()
        if x not in names:
            raise PipelineError(f"--taxi {x}: no monthly dataset is called that; there are: {', '.join(names)}")
        return x


class ReleaseMonthParameter(luigi.MonthParameter):
    """A month, such as 2019-01."""

    def __init__(self, **options: Any) -> None:
        super().__init__(description="which month, such as 2019-01", **options)

    def parse(self, x: str) -> datetime.date:
        try:
            return super().parse(x)
        except ValueError:
            raise PipelineError(f"--month {x}: not a month such as 2019-01") from None
