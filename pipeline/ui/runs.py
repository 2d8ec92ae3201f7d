"""Runs that are started from the page or its API: `luigi` processes, each in its own session."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from dateutil.relativedelta import relativedelta

from pipeline.datasets import dataset_named, format_month, monthly_names, parse_month
from pipeline.errors import PipelineError
from pipeline.settings import SourceSettings
from pipeline.ui.processes import end_run
from pipeline.ui.run_logs import now
from pipeline.warehouses import WAREHOUSES, warehouse_info

_MAX_OUTPUT_LENGTH = 200_000
_MAX_RUNS = 100


@dataclass
class StartedRun:
    """A process that this server started. It outlives the server; the next server finds it by its log."""

    title: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: str = field(default_factory=now)
    ended: str = ""
    cancelled: bool = False

    @property
    def id(self) -> str:
        return f"{self.started[:19].replace('-', '').replace(':', '')}-{self.process.pid}"

    @property
    def is_running(self) -> bool:
        if self.process.poll() is None:
            return True
        self.ended = self.ended or now()
        return False

    @property
    def status(self) -> str:
        if self.is_running:
            return "stopping" if self.cancelled else "running"
        if self.cancelled:
            return "cancelled"
        return "done" if self.process.returncode == 0 else "failed"

    def text(self) -> str:
        """Returns the end of the output of the process."""
        descriptor = self.output.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, _MAX_OUTPUT_LENGTH, max(0, size - _MAX_OUTPUT_LENGTH)).decode(errors="replace")


class Runs:
    """Starts and cancels runs. A request that equals a running run does not start a second one."""

    def __init__(self, scheduler_url: str) -> None:
        self._scheduler_url = scheduler_url
        self._started: list[StartedRun] = []
        self._lock = threading.Lock()

    def start(self, request: Mapping[str, Any]) -> tuple[StartedRun, bool]:
        """Returns the run for the request, and whether it was started now.

        :raises PipelineError: if the request is invalid; the message names the field.
        """
        title, arguments = command_of(request)
        with self._lock:
            for run in self._started:
                if run.arguments == arguments and run.is_running:
                    return run, False
            run = StartedRun(title, arguments, *self._launch(arguments))
            self._started = [*self._started[-_MAX_RUNS:], run]
            return run, True

    def all(self) -> list[StartedRun]:
        return list(self._started)

    def find(self, run_id: str) -> StartedRun | None:
        return next((run for run in self._started if run.id == run_id), None)

    def cancel(self, run: StartedRun) -> bool:
        """Ends a run immediately, without leaving partial results. Returns whether it was running."""
        if not run.is_running:
            return False
        run.cancelled = True
        end_run(run.process.pid)
        return True

    def _launch(self, arguments: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        output = tempfile.TemporaryFile()  # noqa: SIM115 (stays open as long as the run)
        environment = {
            **os.environ,
            "PIPELINE__CORE__LOCAL_SCHEDULER": "false",
            "PIPELINE__CORE__SCHEDULER_URL": self._scheduler_url,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "luigi", "--module", "pipeline", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        return process, output


def command_of(request: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Returns the title of a request, and its arguments for `luigi --module pipeline`.

    :raises PipelineError: if the request is invalid; the message names the field.
    """
    fields = {"action", "dataset", "month", "start", "stop", "warehouse", "workers", "force"}
    if unknown := set(request) - fields:
        raise PipelineError(f"{sorted(unknown)[0]}: there is no such field; there are {', '.join(sorted(fields))}")
    action = _choice(request, "action", ["load", "backfill", "build", "report", "pipeline"])
    warehouse = _choice({"warehouse": "postgres", **request}, "warehouse", list(WAREHOUSES))
    option, place = ("--warehouse", warehouse), warehouse_info(warehouse).title
    if action == "build":
        return f"Build the models on {place}", ("DbtBuild", *option)
    if action == "report":
        return f"Report on {place}", ("Report", *option)
    force = ("--force",) if request.get("force") is True else ()
    suffix = warehouse_info(warehouse).load_suffix
    if action == "load" and request.get("dataset") == "zones":
        return f"Load zones into {place}", (f"LoadZones{suffix}", *force)
    dataset = _choice(request, "dataset", monthly_names())
    if action == "backfill":
        return _backfill(request, dataset, place, f"LoadTripdata{suffix}")
    month = format_month(_month(request, "month", dataset))
    release = ("--taxi", dataset, "--month", month)
    if action == "pipeline":
        return f"Load {dataset} {month}, build, report", ("TripdataPipeline", *release, *option)
    return f"Load {dataset} {month} into {place}", (f"LoadTripdata{suffix}", *release, *force)


def _backfill(request: Mapping[str, Any], dataset: str, place: str, task: str) -> tuple[str, tuple[str, ...]]:
    start, last = _month(request, "start", dataset), _month(request, "stop", dataset)
    if last < start:
        raise PipelineError("stop: the last month comes before the first")
    workers = request.get("workers", 1)
    if type(workers) is not int or not 1 <= workers <= 16:
        raise PipelineError("workers: a number from 1 to 16")
    of = ("--of", task, "--of-params", json.dumps({"taxi": dataset}))
    stop = format_month(last + relativedelta(months=1))  # Luigi excludes the month of --stop
    interval = ("--start", format_month(start), "--stop", stop, "--workers", str(workers))
    title = f"Backfill {dataset} {format_month(start)} to {format_month(last)} into {place}"
    return title, ("RangeMonthly", *of, *interval)


def _choice(request: Mapping[str, Any], name: str, choices: list[str]) -> str:
    value = request.get(name)
    if value not in choices:
        raise PipelineError(f"{name}: one of {', '.join(choices)}")
    return str(value)


def _month(request: Mapping[str, Any], name: str, dataset: str) -> datetime.date:
    try:
        month = parse_month(str(request.get(name, "")))
    except ValueError as error:
        raise PipelineError(f"{name}: {error}") from None
    spec = dataset_named(dataset)
    if spec.first_month and month < spec.first_month and SourceSettings().are_publishers():
        raise PipelineError(f"{name}: {dataset} begins with {format_month(spec.first_month)}")
    return month
