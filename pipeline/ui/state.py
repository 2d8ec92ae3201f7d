"""The data on the page: months, runs, schedules and alerts, from the ledgers, the logs and state files."""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.datasets import monthly_names
from pipeline.errors import PipelineError
from pipeline.schedule.plan import catch_ups
from pipeline.schedule.record import Record
from pipeline.settings import ScheduleSettings, StorageSettings
from pipeline.ui.processes import end_run, writer_of
from pipeline.ui.run_logs import RunLogs, RunSummary, TaskRun
from pipeline.ui.runs import Runs, StartedRun
from pipeline.warehouses import configured_warehouses, warehouse_info, warehouse_named
from pipeline.warehouses.ledger import LedgerEntry

_QUIET_SECONDS = 90  # a run on another machine counts as stopped if its log has not grown for so long
_LEDGER_SECONDS = 2.0  # how long a ledger is cached, unless a run logs something


class State:
    """Reads the data for the page. Thread-safe, because handlers query warehouses in threads."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.logs = RunLogs(StorageSettings().folder("logs"))
        self._ledgers: dict[str, tuple[float, str, list[LedgerEntry], str]] = {}
        self._lock = threading.Lock()

    def grid(self) -> dict[str, Any]:
        """Returns the loaded months, the last attempts, and the available datasets, warehouses and reports."""
        ledgers, problems = {}, {}
        for name in configured_warehouses():
            ledgers[name], problem = self._ledger(name)
            if problem:
                problems[name] = problem
        return {
            "datasets": monthly_names(),
            "warehouses": {name: warehouse_info(name).title for name in ledgers},
            "loaded": {name: [_cell(entry) for entry in entries] for name, entries in ledgers.items()},
            "tries": self._tries(),
            "problems": problems,
            "reports": [name for name in ledgers if (_report_folder(name) / "index.html").exists()],
            "lineage": lineage_file().exists(),
        }

    def month(self, warehouse: str, key: str) -> dict[str, Any]:
        """Returns the ledger entry and the attempts of a release such as `green/2019-01` in a warehouse."""
        entries, problem = self._ledger(warehouse)
        entry = next((entry for entry in entries if entry.partition_key == key), None)
        dataset, _, month = key.partition("/")
        tries = [
            {"run": run.id, **asdict(task)}
            for run in self.logs.summaries()
            for task in run.tasks
            if (task.dataset, task.month) == (dataset, month)
        ]
        loaded = {**asdict(entry), "seconds": entry.seconds} if entry else None
        return {"warehouse": warehouse, "key": key, "entry": loaded, "tries": tries, "problem": problem}

    def run_list(self) -> list[dict[str, Any]]:
        """Returns the newest runs, newest first, including those that were not started by this server."""
        logs = {_pid(summary.id): summary for summary in reversed(self.logs.summaries())}
        found = []
        for run in self.runs.all():
            summary = logs.get(run.process.pid)
            if summary and summary.started < run.started:
                summary = None  # of an earlier process with the same id
            else:
                logs.pop(run.process.pid, None)
            found.append(_row_of_started(run, summary))
        found += [self._row_from_log(summary) for summary in logs.values()]
        return sorted(found, key=lambda run: str(run["started"]), reverse=True)

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Returns a run with its tasks and its log, or None if there is no such run."""
        shown = next((run for run in self.run_list() if run_id in (run["id"], run["log"])), None)
        if shown is None:
            return None
        summary = next((summary for summary in self.logs.summaries() if summary.id == shown["log"]), None)
        started = self.runs.find(run_id)
        return {
            **shown,
            "tasks": [asdict(task) for task in summary.tasks] if summary else [],
            "lines": self.logs.lines(str(shown["log"])),
            "output": started.text() if started and (not summary or shown["status"] == "failed") else "",
        }

    def cancel(self, run_id: str) -> dict[str, Any] | None:
        """Ends a run, including one that this server did not start, without leaving partial results.

        Returns whether the run was ended, with its status, or None if there is no such run.
        """
        if started := self.runs.find(run_id):
            return {"stopped": self.runs.cancel(started), "id": started.id, "status": started.status}
        shown = next((run for run in self.run_list() if run["id"] == run_id), None)
        if shown is None:
            return None
        if shown["cancellable"]:
            end_run(shown["pid"])
        return {"stopped": shown["cancellable"], "id": run_id, "status": shown["status"]}

    def schedules(self) -> list[dict[str, Any]]:
        """Returns each dataset's schedule, its next catch-up and its last successful one."""
        settings = ScheduleSettings()
        try:
            planned = catch_ups(None, settings.task, settings.parameters, settings.start, settings.workers)
        except PipelineError as error:
            return [{"dataset": "", "problem": str(error)}]
        now = datetime.datetime.now(datetime.UTC)
        shown = []
        for catch_up in planned:
            last = Record(settings.folder(), catch_up.name).last_success()
            next_time, schedule = catch_up.trigger.get_next_fire_time(None, now), catch_up.spec.schedule
            shown.append(
                {
                    "dataset": catch_up.name,
                    "task": catch_up.task,
                    "cron": schedule.cron if schedule else "",
                    "timezone": schedule.timezone if schedule else "",
                    "next": next_time.isoformat() if next_time else "",
                    "last": last.isoformat() if last else "",
                }
            )
        return shown

    def alerts(self) -> list[dict[str, Any]]:
        """Returns the open failures and the alerts that have not been delivered yet."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(StorageSettings().alert_state().read_text())
            return list(found) if isinstance(found, list) else []
        return []

    def _row_from_log(self, summary: RunSummary) -> dict[str, Any]:
        """Returns the row of a run that this server did not start."""
        tasks = [task for task in summary.tasks if task.task.startswith(("Load", "Dbt", "Report"))] or summary.tasks
        names = sorted({f"{task.task} {task.dataset}".strip() for task in tasks})
        count = len({(task.dataset, task.month) for task in tasks if task.month})
        writer = writer_of(self.logs.file(summary.id))
        status = "running" if writer or _may_run_elsewhere(summary) else summary.status
        return {
            "id": summary.id,
            "log": summary.id,
            "pid": _pid(summary.id),
            "title": f"{', '.join(names[:3]) or 'nothing done'}{f', {count} months' if count > 1 else ''}",
            "started": summary.started,
            "ended": "" if status == "running" else summary.latest,
            "status": status,
            "cancellable": writer is not None,
            **_counts(summary),
        }

    def _ledger(self, warehouse: str) -> tuple[list[LedgerEntry], str]:
        # A run logs a load after writing it to the ledger, so a new line in a log invalidates the cache.
        logged = max((run.latest for run in self.logs.summaries()), default="")
        with self._lock:
            read_at, last_line, entries, problem = self._ledgers.get(warehouse, (-_LEDGER_SECONDS, "", [], ""))
            if time.monotonic() - read_at > _LEDGER_SECONDS or last_line != logged:
                try:
                    entries, problem = list(warehouse_named(warehouse).loaded()), ""
                except PipelineError as error:
                    entries, problem = [], str(error)
                self._ledgers[warehouse] = (time.monotonic(), logged, entries, problem)
            return entries, problem

    def _tries(self) -> list[dict[str, str]]:
        """Returns the last attempt at each month in each warehouse, according to the logs."""
        last: dict[tuple[str, str, str], tuple[str, TaskRun]] = {}
        live = {run["log"] for run in self.run_list() if run["status"] in ("running", "stopping")}
        families = {name: _load_families(name) for name in configured_warehouses()}
        for run in reversed(self.logs.summaries()):
            for task in run.tasks:
                for warehouse in (name for name, names in families.items() if task.task in names):
                    if task.month and (task.status != "running" or run.id in live):
                        last[(warehouse, task.dataset, task.month)] = (run.id, task)
        return [
            {
                "warehouse": warehouse,
                "key": f"{dataset}/{month}",
                "status": task.status,
                "at": task.ended or task.started,
                "run": run_id,
                "error": task.error,
            }
            for (warehouse, dataset, month), (run_id, task) in last.items()
        ]


def lineage_file() -> Path:
    """Returns the path of dbt's documentation of the models, which `make docs` writes."""
    return StorageSettings().dbt_folder() / "target" / "static_index.html"


def _report_folder(warehouse: str) -> Path:
    return StorageSettings().report_folder(warehouse)


def _cell(entry: LedgerEntry) -> list[object]:
    """Returns key, rows, rows in quarantine and finish time of a month; a list is shorter than an object in JSON."""
    finished = entry.finished_at.isoformat() if entry.finished_at else ""
    return [entry.partition_key, entry.rows_loaded, entry.rows_duplicate + entry.rows_rejected, finished]


def _load_families(warehouse: str) -> set[str]:
    """Returns the names of the tasks that load a month into a warehouse, including those that prepare it."""
    info = warehouse_info(warehouse)
    return {f"LoadTripdata{info.load_suffix}", "ExtractTripdata"} | (
        {"UploadTripdata"} if info.loads_objects else set()
    )


def _pid(run_id: str) -> int:
    return int(run_id.rpartition("-")[2])


def _may_run_elsewhere(summary: RunSummary) -> bool:
    """Returns whether a run without a local process may run on another machine, because its log is recent."""
    if summary.status != "stopped" or not summary.latest:
        return False
    latest = datetime.datetime.fromisoformat(summary.latest)
    return (datetime.datetime.now(datetime.UTC) - latest).total_seconds() < _QUIET_SECONDS


def _row_of_started(run: StartedRun, summary: RunSummary | None) -> dict[str, Any]:
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
        **(_counts(summary) if summary else {"done": 0, "failed": 0, "running": 0, "error": ""}),
    }


def _counts(summary: RunSummary) -> dict[str, Any]:
    last = {(task.task, json.dumps(task.parameters)): task for task in summary.tasks}
    statuses = [task.status for task in last.values()]
    errors = [task.error for task in last.values() if task.status == "failed"]
    return {
        **{name: statuses.count(name) for name in ("done", "failed", "running")},
        "error": errors[-1] if errors else "",
    }
