"""Work sent to a central scheduler: what its pages show of tasks, and workers that share a backfill."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from central import CentralScheduler, central_scheduler
from conftest import Run, execute, publish, settings, start_command
from http_source import Fault, HttpSource
from waiting import MARKER, eventually, held, until_it_waits

from pipeline.warehouses.postgres.connection import PostgresDatabase

GREEN = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi": "green"}')
MONTHS = ("2018-12", *(f"2019-{month:02}" for month in range(1, 13)))
YEAR = (*GREEN, "--start", "2019-01", "--stop", "2020-01")
# What luigi.cfg and central.cfg leave tens of seconds for.
HASTY = {
    "PIPELINE__SCHEDULER__WORKER_DISCONNECT_DELAY": "3",
    "PIPELINE__SCHEDULER__RETRY_DELAY": "0.5",
    "PIPELINE__WORKER__WAIT_INTERVAL": "0.1",
    "PIPELINE__WORKER__WAIT_JITTER": "0",
}


@pytest.fixture
def environment(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> dict[str, str]:
    return settings(tmp_path, database, mirror) | HASTY


@pytest.fixture
def ui(environment: dict[str, str]) -> Iterator[CentralScheduler]:
    with central_scheduler(environment) as running:
        yield running


def load_of(ui: CentralScheduler, month: str) -> dict[str, Any]:
    found = [
        task for task in ui.tasks().values() if (task["name"], task["params"].get("month")) == ("LoadTripdata", month)
    ]
    return found[0] if found else {"status": None}


def test_pages_of_tasks_say_what_came_of_them(luigi: Run, ui: CentralScheduler, mirror: Path, site: HttpSource) -> None:
    path = "/green/green_tripdata_2019-01.csv.gz"
    site.files[path] = (mirror / path[1:]).read_bytes()
    done = luigi(
        "LoadTripdata", "--taxi", "green", "--month", "2019-01", "--source-base-url", site.url, **ui.environment
    )

    assert done.returncode == 0, done.stderr
    tasks = {task["name"]: {"task_id": task_id} | task for task_id, task in ui.tasks("DONE").items()}
    assert "500 rows, verified" in tasks["ExtractTripdata"]["status_message"]
    assert tasks["ExtractTripdata"]["tracking_url"] == f"{site.url}{path}"
    assert tasks["LoadTripdata"]["status_message"].startswith("green/2019-01: 500 rows loaded into green_tripdata")
    assert tasks["LoadTripdata"]["params"]["month"] == "2019-01"
    progress = ui.ask("get_task_progress_percentage", task_id=tasks["LoadTripdata"]["task_id"])
    assert progress["progressPercentage"] == 100


def test_progress_moves_while_a_file_is_fetched(
    luigi: Run, ui: CentralScheduler, environment: dict[str, str], mirror: Path, site: HttpSource
) -> None:
    path = "/green/green_tripdata_2019-01.csv.gz"
    site.files[path] = (mirror / path[1:]).read_bytes()
    site.faults = [Fault(stall_after=len(site.files[path]) // 2)]
    environment |= ui.environment | {"PIPELINE__SOURCE__BASE_URL": site.url, "PIPELINE__SOURCE__READ_TIMEOUT": "20"}
    extract = ("ExtractTripdata", "--taxi", "green", "--month", "2019-01")
    process = start_command("luigi", "--module", "pipeline", *extract, **environment)

    eventually(lambda: [task["progress_percentage"] for task in ui.tasks("RUNNING").values()] in ([49], [50]))
    (running,) = ui.tasks("RUNNING").values()
    assert re.match(r"extract: \d+\.\d MB, \d+\.\d MB/s", running["status_message"])
    site.closing.set()
    process.communicate(timeout=20)
    (done,) = ui.tasks("DONE").values()
    assert done["progress_percentage"] == 100


def test_failed_task_shows_one_line_is_tried_again_and_then_left_alone(luigi: Run, ui: CentralScheduler) -> None:
    done = luigi("LoadTripdata", "--taxi", "green", "--month", "2018-12", **ui.environment)

    assert done.returncode == 30
    assert done.stderr.count("running   ExtractTripdata") == 3
    (disabled,) = ui.tasks("DISABLED")
    error = json.loads(ui.ask("fetch_error", task_id=disabled)["error"])
    assert error.startswith("green 2018-12 does not exist at ")
    assert "\n" not in error


def test_resource_limits_the_loads_at_hand(
    ui: CentralScheduler, environment: dict[str, str], luigi: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, *MONTHS)
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-02")
    ui.ask("update_resource", resource="postgres", amount=1)
    with held(database, MARKER):
        months = ("--start", "2019-01", "--stop", "2019-04", "--workers", "3")
        process = start_command("luigi", "--module", "pipeline", *GREEN, *months, **environment, **ui.environment)
        until_it_waits(database, "INSERT INTO")
        eventually(lambda: load_of(ui, "2019-01").get("status") == "RUNNING")
        eventually(lambda: len(ui.tasks("RUNNING")) == 1)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_two_workers_share_a_backfill_and_one_takes_over_when_the_other_is_killed(
    ui: CentralScheduler,
    environment: dict[str, str],
    luigi: Run,
    database: PostgresDatabase,
    mirror: Path,
    tmp_path: Path,
) -> None:
    publish(mirror, *MONTHS)
    luigi("LoadTripdata", "--taxi", "green", "--month", "2018-12")
    workers: dict[int, subprocess.Popen[str]] = {}
    with held(database, MARKER.replace("2019-01", "2019-06")):
        for _ in range(2):
            process = start_command("luigi", "--module", "pipeline", *YEAR, **environment, **ui.environment)
            workers[process.pid] = process
        eventually(lambda: load_of(ui, "2019-06").get("status") == "RUNNING")
        until_it_waits(database, "INSERT INTO")
        found = re.search(r"pid=(\d+)", load_of(ui, "2019-06")["worker_running"])
        assert found
        killed = workers.pop(int(found[1]))
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=20)
    ((_, survivor),) = workers.items()
    said, _ = survivor.communicate(timeout=60)

    assert survivor.returncode in (10, 25), said  # some of it was others' work, of which it knows nothing
    assert luigi(*YEAR).returncode == 0
    loads = execute(database, "SELECT partition_key, rows_loaded FROM load_ledger ORDER BY 1")
    assert loads == [("green/2018-12", 100), *((f"green/2019-{month:02}", 100) for month in range(1, 13))]
    assert execute(database, "SELECT count(*), count(DISTINCT filename) FROM green_tripdata") == [(1300, 13)]
    done_by_month = runs(tmp_path, "DONE")
    begun_by_month = runs(tmp_path, "RUNNING")
    assert set(done_by_month.values()) == {1} and len(done_by_month) == 12
    assert begun_by_month == {month: 2 if month == "2019-06" else 1 for month in done_by_month}


def test_workers_outlive_a_restart_of_the_central_scheduler(
    environment: dict[str, str], luigi: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, *MONTHS)
    luigi("LoadTripdata", "--taxi", "green", "--month", "2018-12")
    del environment["PIPELINE__SCHEDULER__WORKER_DISCONNECT_DELAY"]
    months = ("--start", "2019-01", "--stop", "2019-04")
    with held(database, MARKER), central_scheduler(environment) as ui:
        worker = start_command("luigi", "--module", "pipeline", *GREEN, *months, **environment, **ui.environment)
        until_it_waits(database, "INSERT INTO")
    with central_scheduler(environment, port=ui.port) as again:
        said, _ = worker.communicate(timeout=30)

        assert worker.returncode == 0, said
        assert len(again.tasks("DONE")) == 7


def runs(root: Path, event: str) -> dict[str, int]:
    """How often the history has an event of each month's load."""
    query = """
        SELECT value, count(*) FROM task_events
        JOIN tasks ON tasks.id = task_events.task_id
        JOIN task_parameters ON task_parameters.task_id = tasks.id AND task_parameters.name = 'month'
        WHERE tasks.name = 'LoadTripdata' AND event_name = ? GROUP BY 1
    """
    with sqlite3.connect(root / "data" / "ui" / "history.sqlite") as history:
        return dict(history.execute(query, (event,)).fetchall())
