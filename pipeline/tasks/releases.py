"""What a task is about: one release file of one dataset."""

from __future__ import annotations

import datetime

from pipeline.datasets import DatasetSpec, spec_named
from pipeline.tasks.parameters import ReleaseMonthParameter, TaxiParameter
from pipeline.tasks.task import PipelineTask


class ReleaseTask(PipelineTask):
    """A task about one release file."""

    @property
    def spec(self) -> DatasetSpec:
        raise NotImplementedError

    @property
    def release_month(self) -> datetime.date | None:
        raise NotImplementedError


class TripdataTask(ReleaseTask):
    """A task about a month of trip records."""

    taxi = TaxiParameter()
    month = ReleaseMonthParameter()

    @property
    def spec(self) -> DatasetSpec:
        return spec_named(self.taxi)

    @property
    def release_month(self) -> datetime.date | None:
        return self.month


class ZonesTask(ReleaseTask):
    """A task about the taxi zones."""

    @property
    def spec(self) -> DatasetSpec:
        return spec_named("zones")

    @property
    def release_month(self) -> datetime.date | None:
        return None
