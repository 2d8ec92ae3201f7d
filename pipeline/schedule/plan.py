"""What is scheduled: a dataset, when it fires, and the command that a firing runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from dateutil.relativedelta import relativedelta

from pipeline.datasets import Dataset, all_datasets, format_month, parse_month
from pipeline.errors import PipelineError
from pipeline.schedule.cron import cron_trigger


@dataclass(frozen=True)
class CatchUp:
    """A task for every month of a dataset from `start` on that is published and not done."""

    spec: Dataset
    trigger: BaseTrigger
    task: str
    parameters: Mapping[str, Any]
    start: str
    workers: int

    @property
    def name(self) -> str:
        return self.spec.name

    def arguments(self) -> list[str]:
        """What follows `luigi` on the command line; the range ends where the dataset does, or with last month."""
        stop = []
        if self.spec.last_month:
            stop = ["--stop", format_month(self.spec.last_month + relativedelta(months=1))]
        of = ["--of", self.task, "--of-params", json.dumps({**self.parameters, "taxi": self.name})]
        workers = ["--workers", str(self.workers)]
        return ["--module", "pipeline", "CatchUpMonthly", *of, "--start", self.start, *stop, *workers]

    def command(self) -> list[str]:
        """The command, on this very Python whatever the PATH."""
        return [sys.executable, "-m", "luigi", *self.arguments()]


def catch_ups(
    names: list[str] | None, task: str, parameters: Mapping[str, Any], start: str, workers: int
) -> list[CatchUp]:
    """One for each of the named datasets, or for every one that has a schedule.

    :raises PipelineError: when a dataset has no schedule, or one that means nothing.
    """
    if start:
        _check_month(start)
    specs = all_datasets()
    wanted = names or [name for name, spec in specs.items() if spec.schedule]
    if not wanted:
        raise PipelineError("no dataset has a schedule: add one to a file in pipeline/datasets")
    return [_catch_up(specs[name], task, parameters, start, workers) for name in wanted]


def _catch_up(spec: Dataset, task: str, parameters: Mapping[str, Any], start: str, workers: int) -> CatchUp:
    if spec.schedule is None or spec.first_month is None:
        raise PipelineError(f"{spec.name} has no schedule: add one to pipeline/datasets/{spec.name}.yaml")
    try:
        trigger = cron_trigger(spec.schedule)
    except ValueError as error:
        raise PipelineError(f"pipeline/datasets/{spec.name}.yaml: schedule: {error}") from None
    return CatchUp(
        spec, trigger, task, parameters, start or format_month(spec.schedule.start or spec.first_month), workers
    )


def _check_month(start: str) -> None:
    try:
        parse_month(start)
    except ValueError as error:
        raise PipelineError(f"[schedule] start: {error}") from None
