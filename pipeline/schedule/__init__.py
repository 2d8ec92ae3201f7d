"""The schedule: the catch-ups that load the missing months of each dataset, and when they run."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dateutil.relativedelta import relativedelta

from pipeline.datasets import Dataset, Schedule, all_datasets, format_month
from pipeline.datasets.cron import firings, time_zone
from pipeline.errors import PipelineError
from pipeline.files import replace_file, storage_errors
from pipeline.settings import ScheduleSettings


@dataclass(frozen=True)
class CatchUp:
    """Runs a task for every published month of a dataset, from `start`, for which it is not complete.

    One file has the time at which the last successful catch-up began. Another has the time at which the schedule was
    started for the first time; earlier firings do not count as missed. A lock is held while a catch-up runs.
    """

    dataset: Dataset
    schedule: Schedule
    task: str
    parameters: Mapping[str, Any]
    start: datetime.date
    workers: int
    folder: Path

    @property
    def name(self) -> str:
        return self.dataset.name

    def arguments(self) -> list[str]:
        """Returns the arguments for `luigi`; the range ends with the dataset's last month or the previous month."""
        stop = []
        if self.dataset.last_month:
            stop = ["--stop", format_month(self.dataset.last_month + relativedelta(months=1))]
        of = ["--of", self.task, "--of-params", json.dumps({**self.parameters, "taxi": self.name})]
        workers = ["--workers", str(self.workers)]
        return ["--module", "pipeline", "CatchUpMonthly", *of, "--start", format_month(self.start), *stop, *workers]

    @property
    def last_success(self) -> Path:
        """The file with the time at which the last successful catch-up began."""
        return self.folder / self.name

    @property
    def first_start(self) -> Path:
        """The file with the time at which the schedule was started for the first time."""
        return self.folder / ".first_starts" / self.name

    def firings(self, since: datetime.datetime) -> Iterator[datetime.datetime]:
        """Returns the scheduled times from `since` on, in the schedule's time zone."""
        return firings(self.schedule.cron, time_zone(self.schedule.timezone), since)

    @contextlib.contextmanager
    def locked(self) -> Iterator[TextIO | None]:
        """Yields the locked file, or None if another process holds the lock.

        A child process that inherits the file holds the lock until it ends, even if this process is killed.

        :raises PipelineError: if the file cannot be opened.
        """
        lock = self.folder / ".locks" / self.name  # a separate file, because the record is replaced
        with storage_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            opened = lock.open("a")
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file


def catch_ups(names: list[str] | None = None) -> list[CatchUp]:
    """Returns a catch-up for each of the named datasets, or for each dataset with a schedule.

    :raises PipelineError: if a dataset has no schedule, or this machine does not have its time zone.
    """
    settings, specs = ScheduleSettings(), all_datasets()
    wanted = names or [name for name, dataset in specs.items() if dataset.schedule]
    if not wanted:
        raise PipelineError("no dataset has a schedule: add one to a file in pipeline/datasets")
    return [_catch_up(specs[name], settings) for name in wanted]


def read_time(file: Path) -> datetime.datetime | None:
    """Returns the time in a file, or None if there is none."""
    try:
        return datetime.datetime.fromisoformat(file.read_text().strip())
    except (FileNotFoundError, ValueError):
        return None


def write_time(file: Path, time: datetime.datetime) -> None:
    """Writes a time to a file, atomically: after a crash the file contains the old or the new time.

    :raises PipelineError: if the file cannot be written.
    """
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, time.isoformat().encode())


def format_time(at: datetime.datetime) -> str:
    """Formats a local time with its UTC offset, such as `2026-03-01 09:00 -05:00 EST`."""
    return f"{at:%Y-%m-%d %H:%M} {at.isoformat()[-6:]} {at:%Z}"


def _catch_up(dataset: Dataset, settings: ScheduleSettings) -> CatchUp:
    schedule = dataset.schedule
    if schedule is None or dataset.first_month is None:
        raise PipelineError(f"{dataset.name} has no schedule: add one to {dataset.spec_file}")
    try:
        time_zone(schedule.timezone)
    except ValueError as error:  # reading the file refused what is wrong on every machine
        raise PipelineError(f"{dataset.spec_file}: schedule: {error}; install tzdata") from None
    start = settings.start or schedule.start or dataset.first_month
    return CatchUp(dataset, schedule, settings.task, settings.parameters, start, settings.workers, settings.folder())
