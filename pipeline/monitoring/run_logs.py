"""Reads the logs of runs: when each task started and ended, its status and its error."""

from __future__ import annotations

import datetime
import fcntl
import json
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.datasets import all_datasets, parse_month
from pipeline.tasks.base import WAREHOUSE_CHOICES
from pipeline.tasks.load import LOAD_TRIPDATA

_NAME = re.compile(r"\d{8}T\d{6,12}-\d+")
_EVENTS = ("running", "done", "failed")
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("time", "task", "dataset", "month", "error"), str),
    "parameters": dict,
    "pid": int,
    "rows": int,
    "seconds": (int, float),
}


@dataclass
class TaskRun:
    """One attempt at a task in a run. `ended` is empty while it runs, and if its process was killed.

    A task that Luigi starts again after it has yielded others is still the same attempt.
    """

    task: str
    parameters: dict[str, str]
    dataset: str
    month: str
    started: str
    pid: int
    ended: str = ""
    status: str = "running"
    rows: int | None = None
    error: str = ""

    @property
    def key(self) -> str:
        """The key of its release, such as `green/2019-01`, if it is a month."""
        return f"{self.dataset}/{self.month}"

    def serves(self, warehouse: str) -> bool:
        """Returns whether the task does something for a warehouse, and not only for others."""
        if chosen := self.parameters.get("warehouse"):
            return warehouse in WAREHOUSE_CHOICES.get(chosen, [])
        served = [name for name in LOAD_TRIPDATA if self.task in _steps(name)]
        return not served or warehouse in served


@dataclass
class RunSummary:
    """The content of a run's log so far; times are ISO 8601 in UTC.

    `unfinished` has the attempts that have not ended, by task and parameters.
    """

    id: str
    started: str = ""
    latest: str = ""
    tasks: list[TaskRun] = field(default_factory=list)
    unfinished: dict[str, TaskRun] = field(default_factory=dict)
    size: int = 0

    @property
    def pid(self) -> int:
        return int(self.id.rpartition("-")[2])

    @property
    def status(self) -> str:
        """Returns `failed` if the last attempt at a task failed, `stopped` if one has not ended, and `done` otherwise.

        A run whose process is still alive is `stopped` here, too.
        """
        statuses = {task.status for task in self.last_attempts()}
        if "failed" in statuses:
            return "failed"
        return "stopped" if "running" in statuses else "done"

    def last_attempts(self) -> list[TaskRun]:
        """Returns the last attempt at each task."""
        return list({(task.task, json.dumps(task.parameters)): task for task in self.tasks}.values())


class RunLogs:
    """The newest logs in a folder, or all. `summaries` reads only what has been added to them since its last call."""

    def __init__(self, folder: Path, newest: int | None = None) -> None:
        self._folder, self._newest = folder, newest
        self._known: dict[str, RunSummary] = {}
        self._lock = threading.Lock()

    def summaries(self) -> list[RunSummary]:
        """Returns the runs, newest first."""
        try:
            names = sorted((file.stem for file in self._folder.glob("*.jsonl")), reverse=True)[: self._newest]
        except OSError:
            return []
        with self._lock:
            self._known = {name: self._known.get(name) or RunSummary(name) for name in names if _NAME.fullmatch(name)}
            for summary in self._known.values():
                self._read_new_lines(summary)
            return list(self._known.values())

    def is_running(self, run_id: str) -> bool:
        """Returns whether a run goes on, here or on another machine: it locks its log until it ends."""
        try:
            with self.file(run_id).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def file(self, run_id: str) -> Path:
        """Returns the path of a run's log, which may not exist."""
        return self._folder / f"{run_id}.jsonl"

    def lines(self, run_id: str) -> list[dict[str, Any]]:
        """Returns all lines of a run's log, or an empty list if there is no such run."""
        if not _NAME.fullmatch(run_id):
            return []
        try:
            text = self.file(run_id).read_bytes()
        except OSError:
            return []
        return list(_objects(text))

    def _read_new_lines(self, summary: RunSummary) -> None:
        try:
            with self.file(summary.id).open("rb") as file:
                file.seek(summary.size)
                text = file.read()
        except OSError:
            return
        complete_lines = text[: text.rfind(b"\n") + 1]
        summary.size += len(complete_lines)
        for line in _objects(complete_lines):
            summary.started = summary.started or str(line.get("time", ""))
            summary.latest = str(line.get("time", ""))
            if line.get("event") in _EVENTS and {"task", "time"} <= line.keys():
                _add_event(summary, line)


def last_attempts(
    runs: Sequence[RunSummary], warehouses: Iterable[str], active: Collection[str] = ()
) -> dict[tuple[str, str], tuple[str, TaskRun]]:
    """Returns the last attempt at each month in each warehouse, with the id of its run, by warehouse and key.

    An attempt ends when one of its tasks fails or the load is done; one without an end counts if its run is active.
    Leaves out months that no publisher can have, such as mistyped ones. The runs are given newest first.
    """
    last: dict[tuple[str, str], tuple[str, TaskRun]] = {}
    steps = {name: _steps(name) for name in warehouses}
    for run_id, task in ((run.id, task) for run in reversed(runs) for task in run.tasks):
        if (task.ended or run_id in active) and _may_exist(task):
            for name, (*before, load) in steps.items():
                if task.task == load or (task.task in before and task.status != "done"):
                    last[name, task.key] = (run_id, task)
    return last


def _steps(warehouse: str) -> list[str]:
    """Returns the names of the tasks that bring a month into a warehouse, in order; the load is the last."""
    load = LOAD_TRIPDATA[warehouse]
    tasks = [getattr(load.requirement, "requirement", None), load.requirement, load]
    return [task.get_task_family() for task in tasks if task]


def _may_exist(task: TaskRun) -> bool:
    dataset = all_datasets().get(task.dataset)
    return bool(task.month and dataset and dataset.may_have(parse_month(task.month)))


def _add_event(summary: RunSummary, line: dict[str, Any]) -> None:
    task, parameters = line["task"], line.get("parameters", {})
    key = f"{task} {json.dumps(parameters, sort_keys=True)}"
    run = summary.unfinished.get(key)
    if run is None:
        dataset, month = line.get("dataset", ""), line.get("month", "")
        run = TaskRun(task, parameters, dataset, month, line["time"], line.get("pid", 0))
        summary.tasks.append(run)
        summary.unfinished[key] = run
        if line["event"] != "running":
            started = datetime.datetime.fromisoformat(line["time"]) - datetime.timedelta(seconds=line.get("seconds", 0))
            run.started = started.isoformat("T", "milliseconds")
    if line["event"] != "running":
        del summary.unfinished[key]
        run.ended, run.status = line["time"], line["event"]
        run.rows, run.error = line.get("rows"), line.get("error", "")


def _objects(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and all(isinstance(found[name], _TYPES[name]) for name in _TYPES.keys() & found):
            yield found
