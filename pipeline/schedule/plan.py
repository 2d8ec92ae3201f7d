"""The scheduled catch-ups: a dataset, its trigger, and the command that is run."""

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
    """Runs a task for every published month of a dataset, from `start`, for which it is not complete."""

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
        """Returns the arguments for `luigi`; the range ends with the dataset's last month or the previous month."""
        stop = []
        if self.spec.last_month:
            stop = ["--stop", format_month(self.spec.last_month + relativedelta(months=1))]
        of = ["--of", self.task, "--of-params", json.dumps({**self.parameters, "taxi": self.name})]
        workers = ["--workers", str(self.workers)]
        return ["--module", "pipeline", "CatchUpMonthly", *of, "--start", self.start, *stop, *workers]

    def command(self) -> list[str]:
        """Returns the command, which uses the current Python interpreter rather than PATH."""
        return [sys.executable, "-m", "luigi", *self.arguments()]


def catch_ups(
    names: list[str] | None, task: str, parameters: Mapping[str, Any], start: str, workers: int
) -> list[CatchUp]:
    """Returns a catch-up for each of the named datasets, or for each dataset with a schedule.

    :raises PipelineError: if a dataset has no schedule, or its schedule is invalid.
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
