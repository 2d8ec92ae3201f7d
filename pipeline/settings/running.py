"""Settings of what runs on its own: the schedule, and the central scheduler with its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import luigi

from pipeline.settings.files import storage
from pipeline.settings.section import Section


class ui(Section):
    """The central scheduler that `pipeline ui` starts."""

    address: str = luigi.Parameter(
        default="127.0.0.1", description="the address to listen on; Luigi asks nobody for a password"
    )
    port: int = luigi.IntParameter(default=8082, description="the port to listen on")
    expose: bool = luigi.BoolParameter(
        default=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="allow an address that other machines can reach",
    )
    history: str = luigi.Parameter(
        default="",
        significant=False,
        description="SQLAlchemy URL of the task history; empty: an SQLite file below [storage] root",
    )

    def folder(self) -> Path:
        """Where the state is kept between two runs, and the history unless it is elsewhere."""
        return storage().folder("ui")


class schedule(Section):
    """What a firing of the schedule runs."""

    task: str = luigi.Parameter(default="LoadTripdata", description="the task that each month of a dataset is for")
    parameters: dict[str, Any] = luigi.DictParameter(default={}, description="more parameters of that task, as JSON")
    start: str = luigi.Parameter(
        default="", description="the first month to catch up with, such as 2019-01; empty: the dataset's first_month"
    )
    workers: int = luigi.IntParameter(default=1, description="how many months to work on side by side")
    retry_minutes: float = luigi.FloatParameter(
        default=60, description="minutes until a failed catch-up is tried again; 0: at the next firing"
    )

    def folder(self) -> Path:
        """Where each dataset's last catch-up is noted."""
        return storage().folder("schedule")
