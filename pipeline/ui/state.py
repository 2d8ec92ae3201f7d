"""The data on the page: months, schedules and alerts, from the ledgers, the logs and state files."""

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
from pipeline.monitoring.run_logs import last_attempts
from pipeline.schedule import catch_ups, read_time
from pipeline.settings import StorageSettings
from pipeline.ui.runs import ACTIVE, Runs
from pipeline.warehouses import configured_warehouses, existing_warehouse, warehouse_info
from pipeline.warehouses.ledger import LedgerEntry

_LEDGER_SECONDS = 2.0  # how long a ledger is cached, unless a run logs something


class State:
    """Reads the data for the page. Thread-safe, because handlers query warehouses in threads."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
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
            "reports": [name for name in ledgers if StorageSettings().report_page(name).exists()],
            "lineage": lineage_file().exists(),
        }

    def month(self, warehouse: str, key: str) -> dict[str, Any]:
        """Returns the ledger entry of a release such as `green/2019-01` in a warehouse, and its attempts."""
        entries, problem = self._ledger(warehouse)
        entry = next((entry for entry in entries if entry.partition_key == key), None)
        tries = [
            {"run": run.id, **asdict(task)}
            for run in self.runs.logs.summaries()
            for task in run.tasks
            if task.key == key and task.serves(warehouse)
        ]
        loaded = {**asdict(entry), "seconds": entry.seconds} if entry else None
        return {"warehouse": warehouse, "key": key, "entry": loaded, "tries": tries, "problem": problem}

    def overview(self) -> dict[str, Any]:
        """Returns the schedules, the open failures, and the alerts that have not been delivered yet."""
        alerts: object = []
        with contextlib.suppress(OSError, ValueError):
            alerts = json.loads(StorageSettings().alert_state().read_text())
        return {"schedules": _schedules(), "alerts": alerts if isinstance(alerts, list) else []}

    def _ledger(self, warehouse: str) -> tuple[list[LedgerEntry], str]:
        # A run logs a load after writing it to the ledger, so a new line in a log invalidates the cache.
        logged = max((run.latest for run in self.runs.logs.summaries()), default="")
        with self._lock:
            read_at, last_line, entries, problem = self._ledgers.get(warehouse, (-_LEDGER_SECONDS, "", [], ""))
            if time.monotonic() - read_at > _LEDGER_SECONDS or last_line != logged:
                try:
                    adapter = existing_warehouse(warehouse)
                    entries, problem = list(adapter.loaded()) if adapter else [], ""
                except PipelineError as error:
                    entries, problem = [], str(error)
                self._ledgers[warehouse] = (time.monotonic(), logged, entries, problem)
            return entries, problem

    def _tries(self) -> list[dict[str, str]]:
        """Returns the last attempt at each month in each warehouse, according to the logs."""
        active = {run["log"] for run in self.runs.all() if run["status"] in ACTIVE}
        attempts = last_attempts(self.runs.logs.summaries(), configured_warehouses(), active)
        return [
            {
                "warehouse": warehouse,
                "key": key,
                "status": task.status,
                "at": task.ended or task.started,
                "run": run_id,
                "error": task.error,
            }
            for (warehouse, key), (run_id, task) in attempts.items()
        ]


def _schedules() -> list[dict[str, str]]:
    """Returns each dataset's schedule, its next catch-up and its last successful one."""
    try:
        planned = catch_ups()
    except PipelineError as error:
        return [{"dataset": "", "problem": str(error)}]
    now, shown = datetime.datetime.now(datetime.UTC), list[dict[str, str]]()
    for catch_up in planned:
        last = read_time(catch_up.last_success)
        shown.append(
            {
                "dataset": catch_up.name,
                "task": catch_up.task,
                "cron": catch_up.schedule.cron,
                "timezone": catch_up.schedule.timezone,
                "next": next(catch_up.firings(now)).isoformat(),
                "last": last.isoformat() if last else "",
            }
        )
    return shown


def lineage_file() -> Path:
    """Returns the path of dbt's documentation of the models, which `make docs` writes."""
    return StorageSettings().dbt_folder() / "target" / "static_index.html"


def _cell(entry: LedgerEntry) -> list[object]:
    """Returns key, rows, rows in quarantine and finish time of a month; a list is shorter than an object in JSON."""
    finished = entry.finished_at.isoformat() if entry.finished_at else ""
    return [entry.partition_key, entry.rows_loaded, entry.rows_duplicate + entry.rows_rejected, finished]
