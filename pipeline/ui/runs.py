"""The runs on the page: those that this server started and, by their logs, all others."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from pipeline.monitoring.run_logs import RunLogs, RunSummary
from pipeline.settings import StorageSettings
from pipeline.ui.started_runs import StartedRun, command_of

_MAX_STARTED, _MAX_LOGS = 100, 200  # the newest
_END_SECONDS = 10  # how long a cancelled run is waited for
ACTIVE = ("running", "stopping")  # the statuses of runs that have not ended


class Runs:
    """Starts, lists and cancels runs. A request that equals a running run does not start a second one. Thread-safe."""

    def __init__(self, scheduler_url: str) -> None:
        self.logs = RunLogs(StorageSettings().logs_folder(), _MAX_LOGS)
        self._scheduler_url = scheduler_url
        self._started: list[StartedRun] = []
        self._lock = threading.Lock()

    def start(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Returns the run for the request, and whether it was started now.

        The equal run may be one of an earlier server, or of a terminal on this machine.

        :raises PipelineError: if the request is invalid; the message names the field.
        """
        title, arguments = command_of(request)
        with self._lock:
            for row in self.all():
                if row["cancellable"] and _arguments(row) == arguments:
                    return row, False
            run = StartedRun.start(title, arguments, self._scheduler_url)
            self._started = [*self._started[-_MAX_STARTED:], run]
            return _row_of_started(run, None), True

    def all(self) -> list[dict[str, Any]]:
        """Returns the newest runs, newest first, including those that were not started by this server."""
        logs = {summary.id: summary for summary in self.logs.summaries()}
        found = [_row_of_started(run, logs.pop(run.id, None)) for run in self._started]
        found += [self._row_from_log(summary) for summary in logs.values()]
        return sorted(found, key=lambda run: str(run["started"]), reverse=True)

    def find(self, run_id: str) -> dict[str, Any] | None:
        """Returns a run with its tasks and its log, or None if there is no such run."""
        row = self._find_row(run_id)
        if row is None:
            return None
        summary = next((summary for summary in self.logs.summaries() if summary.id == row["log"]), None)
        started = self._find_started(row["id"])
        return {
            **row,
            "tasks": [asdict(task) for task in summary.tasks] if summary else [],
            "lines": self.logs.lines(row["log"]),
            "output": started.text() if started and (not summary or row["status"] == "failed") else "",
        }

    def cancel(self, run_id: str) -> dict[str, Any] | None:
        """Ends a run, including one that this server did not start, without leaving partial results.

        Returns whether the run was ended, with its status and process id, or None if there is no such run.
        """
        row = self._find_row(run_id)
        if row is None:
            return None
        if row["cancellable"]:
            started = self._find_started(row["id"])
            if started:
                started.cancelled = True
            _end_run(row["pid"])
            if started:
                started.wait(_END_SECONDS)
                row["status"] = started.status
            else:
                _wait_for_end(row["pid"])
        return {"stopped": row["cancellable"], "id": run_id, "status": row["status"], "pid": row["pid"]}

    def _find_row(self, run_id: str) -> dict[str, Any] | None:
        return next((run for run in self.all() if run["id"] == run_id), None)

    def _find_started(self, run_id: str) -> StartedRun | None:
        return next((run for run in self._started if run.id == run_id), None)

    def _row_from_log(self, summary: RunSummary) -> dict[str, Any]:
        """Returns the row of a run that this server did not start."""
        tasks = [task for task in summary.tasks if task.task.startswith(("Load", "Dbt", "Report"))] or summary.tasks
        names = sorted({f"{task.task} {task.dataset}".strip() for task in tasks})
        months = {(task.dataset, task.month) for task in tasks if task.month}
        period = f", {len(months)} months" if len(months) > 1 else "".join(f" {month}" for _, month in months)
        is_running = self.logs.is_running(summary.id)
        return {
            "id": summary.id,
            "log": summary.id,
            "pid": summary.pid,
            "title": f"{', '.join(names[:3]) or 'nothing done'}{period}",
            "started": summary.started,
            "ended": "" if is_running else summary.latest,
            "status": "running" if is_running else summary.status,
            "cancellable": is_running and _may_end(self.logs.file(summary.id), summary.pid),
            **_counts(summary),
        }


def _arguments(row: Mapping[str, Any]) -> list[str]:
    """Returns what follows `--module pipeline` in the command of a run; empty if it is not one of `luigi`."""
    words = row.get("command", [])
    with contextlib.suppress(psutil.Error):
        words = words or psutil.Process(row["pid"]).cmdline()
    return list(words[words.index("--module") + 2 :]) if "--module" in words else []


def _row_of_started(run: StartedRun, summary: RunSummary | None) -> dict[str, Any]:
    counts = _counts(summary or RunSummary(""))
    if run.status == "failed":
        counts["error"] = counts["error"] or run.failure
    return {
        "id": run.id,
        "log": summary.id if summary else "",
        "pid": run.process.pid,
        "title": run.title,
        "command": ["luigi", "--module", "pipeline", *run.arguments],
        "started": run.started,
        "status": run.status,
        "ended": run.ended,
        "exit_code": run.process.returncode,
        "cancellable": run.is_running,
        **counts,
    }


def _counts(summary: RunSummary) -> dict[str, Any]:
    last = summary.last_attempts()
    statuses = [task.status for task in last]
    errors = [task.error for task in last if task.status == "failed"]
    return {
        **{name: statuses.count(name) for name in ("done", "failed", "running")},
        "error": errors[-1] if errors else "",
    }


def _may_end(log: Path, pid: int) -> bool:
    """Returns whether the process of a run is on this machine and belongs to this user: it has the log open.

    The id alone does not tell, as ids are reused, and another machine may have the same.
    """
    try:
        return str(log.resolve()) in [file.path for file in psutil.Process(pid).open_files()]
    except psutil.Error:
        return False


def _end_run(pid: int) -> None:
    """Ends a run and its forked workers immediately, but not the embedded server that it may have started."""
    with contextlib.suppress(psutil.Error, OSError):
        group = os.getpgid(pid)
        if group == pid:
            os.killpg(group, signal.SIGTERM)
            return
        process = psutil.Process(pid)
        for member in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error, OSError):
                if os.getpgid(member.pid) == group:
                    member.terminate()


def _wait_for_end(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        psutil.Process(pid).wait(_END_SECONDS)
