"""Runs that this server starts: from a request of the page or of the API to a process of `luigi`."""

from __future__ import annotations

import configparser
import datetime
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from pipeline.datasets import Dataset, all_datasets, dataset_named, monthly_names, parse_month
from pipeline.datasets.month_range import Months
from pipeline.errors import PipelineError
from pipeline.files import CENTRAL_SETTINGS
from pipeline.monitoring.logs import RUN_STARTED, run_id, timestamp
from pipeline.settings import SourceSettings, exit_codes
from pipeline.tasks.load import load_arguments
from pipeline.warehouses import WAREHOUSES, warehouse_info

_MAX_OUTPUT_LENGTH = 200_000
_MAX_ERROR_LENGTH = 500
_MAX_WORKERS = 16
_FIELDS = {
    "load": ["dataset", "month", "force"],
    "backfill": ["dataset", "start", "stop", "workers", "force"],
    "build": [],
    "report": [],
    "pipeline": ["dataset", "month", "force"],
}


@dataclass
class StartedRun:
    """A process that this server started. It outlives the server; the next server finds it by its log."""

    title: str
    arguments: list[str]
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: str = field(default_factory=timestamp)
    ended: str = ""
    cancelled: bool = False

    @classmethod
    def start(cls, title: str, arguments: list[str], scheduler_url: str) -> StartedRun:
        """Starts `luigi` with the arguments and the settings of `central.cfg`, in a session of its own."""
        output, started = tempfile.TemporaryFile(), timestamp()  # noqa: SIM115 (stays open as long as the run)
        environment = {
            **os.environ,
            **{name: value for name, value in _central_settings().items() if not os.environ.get(name)},
            "PIPELINE__CORE__LOCAL_SCHEDULER": "false",
            "PIPELINE__CORE__SCHEDULER_URL": scheduler_url,
            RUN_STARTED: started,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "luigi", "--module", "pipeline", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        return cls(title, arguments, process, output, started)

    def __post_init__(self) -> None:
        self._watcher = threading.Thread(target=self._record_end, daemon=True)
        self._watcher.start()

    def _record_end(self) -> None:
        self.process.wait()
        self.ended = timestamp()

    def wait(self, seconds: float) -> None:
        """Waits until the process has ended, at most for so long."""
        self._watcher.join(seconds)

    @property
    def id(self) -> str:
        return run_id(self.started, self.process.pid)

    @property
    def is_running(self) -> bool:
        return not self.ended

    @property
    def status(self) -> str:
        if self.is_running:
            return "stopping" if self.cancelled else "running"
        if self.cancelled:
            return "cancelled"
        return "done" if self.process.returncode == 0 else "failed"

    @functools.cached_property
    def failure(self) -> str:
        """Why the process failed, in one line, for a run in which no task has failed. Call it after the end."""
        code, codes = self.process.returncode, exit_codes()
        if code in (codes.already_running, codes.not_run):
            return (
                "another run is doing, or has done, some of its tasks; start it again to see whether everything is done"
            )
        if code < 0:
            return f"the process was ended by {signal.Signals(-code).name}"
        lines = [line.strip() for line in self.text().splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR: " in line]
        found = [*lines[-1:], *errors[-1:]] or [f"the process ended with exit code {code}, without a message"]
        return found[-1][:_MAX_ERROR_LENGTH]

    def text(self) -> str:
        """Returns the end of the output of the process."""
        descriptor = self.output.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, _MAX_OUTPUT_LENGTH, max(0, size - _MAX_OUTPUT_LENGTH)).decode(errors="replace")


def _central_settings() -> dict[str, str]:
    """Returns the settings with which a command uses a central scheduler, as environment variables."""
    central = configparser.RawConfigParser()
    central.read(CENTRAL_SETTINGS, encoding="utf-8")
    return {
        f"PIPELINE__{section}__{key}".upper(): value
        for section in central.sections()
        for key, value in central.items(section)
    }


def command_of(request: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Returns the title of a request, and its arguments for `luigi --module pipeline`.

    :raises PipelineError: if the request is invalid; the message names the field.
    """
    action = _choice(request, "action", list(_FIELDS))
    known = ["action", "warehouse", *_FIELDS[action]]
    if unknown := set(request) - {*known}:
        raise PipelineError(f"{sorted(unknown)[0]}: {action} has no such field; it has {', '.join(known)}")
    warehouse = _choice({"warehouse": "postgres", **request}, "warehouse", list(WAREHOUSES))
    option, place = ["--warehouse", warehouse], warehouse_info(warehouse).title
    if action == "build":
        return f"Build the models on {place}", ["DbtBuild", *option]
    if action == "report":
        return f"Report on {place}", ["Report", *option]
    names = list(all_datasets()) if action == "load" else monthly_names()
    dataset = dataset_named(_choice(request, "dataset", names))
    force = {"force": True} if _force(request) else {}
    if action == "backfill":
        months, workers = _months(request, dataset, "start", "stop"), _workers(request)
        title = f"Backfill {dataset.name} {str(months).replace('..', ' to ')} into {place}"
        return title, load_arguments(warehouse, dataset, months, force, workers)
    month = _months(request, dataset, "month", "month") if dataset.is_monthly else None
    what = f"{dataset.name} {month}" if month else dataset.name
    if action == "pipeline":
        task = ["TripdataPipeline", "--taxi", dataset.name, "--month", str(month)]
        return f"Load {what}, build, report", [*task, *option, *(["--force"] if force else [])]
    return f"Load {what} into {place}", load_arguments(warehouse, dataset, month, force)


def _choice(request: Mapping[str, Any], name: str, choices: list[str]) -> str:
    value = request.get(name)
    if value not in choices:
        raise PipelineError(f"{name}: one of {', '.join(choices)}")
    return str(value)


def _months(request: Mapping[str, Any], dataset: Dataset, start: str, stop: str) -> Months:
    """Returns the months from that in one field to that in another, as far as a source may have them."""
    first, last = _month(request, start), _month(request, stop)
    if last < first:
        raise PipelineError(f"{stop}: the last month comes before the first")
    try:
        return SourceSettings().possible_months(dataset, Months(first, last))
    except PipelineError as error:
        raise PipelineError(f"{start}: {error}") from None


def _month(request: Mapping[str, Any], name: str) -> datetime.date:
    try:
        return parse_month(str(request.get(name, "")))
    except ValueError as error:
        raise PipelineError(f"{name}: {error}") from None


def _force(request: Mapping[str, Any]) -> bool:
    force = request.get("force", False)
    if type(force) is not bool:
        raise PipelineError("force: true or false")
    return force


def _workers(request: Mapping[str, Any]) -> int:
    workers = request.get("workers", 1)
    if type(workers) is not int or not 1 <= workers <= _MAX_WORKERS:
        raise PipelineError(f"workers: a number from 1 to {_MAX_WORKERS}")
    return workers
