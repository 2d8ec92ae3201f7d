"""What the logs of runs say: which tasks began and ended when, how, and why not."""

from __future__ import annotations

import datetime
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NAME = re.compile(r"\d{8}T\d{6}-\d+")
_NEWEST = 200  # files that are read
_EVENTS = ("running", "done", "failed")


@dataclass
class TaskRun:
    """One try of a task in a run. No `ended` while it is under way, or when its process was killed."""

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


@dataclass
class RunSummary:
    """What a run's log says so far; times are ISO 8601 in UTC."""

    id: str
    started: str = ""
    latest: str = ""
    tasks: list[TaskRun] = field(default_factory=list)
    size: int = 0

    @property
    def status(self) -> str:
        """`failed` when a task's last try failed, `done` otherwise; whether its process lives is not known here."""
        last = {(each.task, json.dumps(each.parameters)): each.status for each in self.tasks}
        if "failed" in last.values():
            return "failed"
        return "stopped" if "running" in last.values() else "done"


class RunLogs:
    """The logs in a folder. What has been read of a file is not read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, RunSummary] = {}
        self._lock = threading.Lock()

    def summaries(self) -> list[RunSummary]:
        """The newest runs, newest first."""
        try:
            names = sorted((file.stem for file in self._folder.glob("*.jsonl")), reverse=True)[:_NEWEST]
        except OSError:
            return []
        with self._lock:
            self._known = {name: self._known.get(name) or RunSummary(name) for name in names if _NAME.fullmatch(name)}
            for summary in self._known.values():
                self._read_on(summary)
            return list(self._known.values())

    def file(self, run_id: str) -> Path:
        """Where a run's log is, if it has one."""
        return self._folder / f"{run_id}.jsonl"

    def lines(self, run_id: str) -> list[dict[str, Any]]:
        """All lines of a run's log; none where there is no such run."""
        if not _NAME.fullmatch(run_id):
            return []
        try:
            text = self.file(run_id).read_bytes()
        except OSError:
            return []
        return list(_objects(text))

    def _read_on(self, summary: RunSummary) -> None:
        try:
            with self.file(summary.id).open("rb") as file:
                file.seek(summary.size)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        summary.size += len(whole)
        for line in _objects(whole):
            summary.started = summary.started or str(line.get("time", ""))
            summary.latest = str(line.get("time", ""))
            if line.get("event") in _EVENTS and line.get("task"):
                _note(summary, line)


def _note(summary: RunSummary, line: dict[str, Any]) -> None:
    same = (line["task"], line.get("parameters", {}))
    running = [each for each in summary.tasks if (each.task, each.parameters) == same and not each.ended]
    if line["event"] == "running" or not running:
        each = TaskRun(*same, line.get("dataset", ""), line.get("month", ""), line["time"], line.get("pid", 0))
        summary.tasks.append(each)
        running = [each]
        if line["event"] != "running":
            began = datetime.datetime.fromisoformat(line["time"]) - datetime.timedelta(seconds=line.get("seconds", 0))
            each.started = began.isoformat("T", "milliseconds")
    if line["event"] != "running":
        each = running[-1]
        each.ended, each.status = line["time"], line["event"]
        each.rows, each.error = line.get("rows"), line.get("error", "")


def _objects(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def now() -> str:
    """This moment, as logs write it."""
    return datetime.datetime.now(datetime.UTC).isoformat("T", "milliseconds")
