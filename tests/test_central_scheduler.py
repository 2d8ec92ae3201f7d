"""Commands that use a central scheduler: what its pages show, retries, and workers that share a backfill."""

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
from conftest import CHECKOUT, Run, execute, publish, run_command, settings, start_command
from http_source import Fault, HttpSource
from waiting import INSERT_JANUARY_MARKER, eventually, lock_held, wait_until_blocked

from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("LoadTripdata", "--taxi", "green")
GREEN = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi": "green"}')
MONTHS = (*(f"2019-{month:02}" for month in range(1, 13)), "2020-01")
YEAR = (*GREEN, "--start", "2019-01", "--stop", "2020-01")
# luigi.cfg and central.cfg set these waits to tens of seconds.
SHORT_SCHEDULER_WAITS = {
    "PIPELINE__SCHEDULER__WORKER_DISCONNECT_DELAY": "3",
    "PIPELINE__SCHEDULER__RETRY_DELAY": "0.5",
    "PIPELINE__WORKER__WAIT_INTERVAL": "0.1",
    "PIPELINE__WORKER__WAIT_JITTER": "0",
}


@pytest.fixture
def environment(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> dict[str, str]:
    return settings(tmp_path, database, mirror) | SHORT_SCHEDULER_WAITS


@pytest.fixture
def ui(environment: dict[str, str]) -> Iterator[CentralScheduler]:
    with central_scheduler(environment) as running:
        yield running


def load_task(ui: CentralScheduler, month: str) -> dict[str, Any]:
    found = [
        task for task in ui.tasks().values() if (task["name"], task["params"].get("month")) == ("LoadTripdata", month)
    ]
    return found[0] if found else {"status": None}


def test_task_pages_show_results_progress_and_source(
    luigi: Run, ui: CentralScheduler, mirror: Path, site: HttpSource
) -> None:
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
    progress = ui.call_api("get_task_progress_percentage", task_id=tasks["LoadTripdata"]["task_id"])
    assert progress["progressPercentage"] == 100


def test_progress_is_updated_during_a_download(
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


def test_permanent_failure_is_not_retried_until_the_next_run(luigi: Run, ui: CentralScheduler, mirror: Path) -> None:
    failed = luigi(*LOAD, "--month", "2019-02", **ui.environment)

    assert failed.returncode == 30
    assert failed.stderr.count("running   ExtractTripdata") == 1
    (disabled,) = ui.tasks("DISABLED")
    error = json.loads(ui.call_api("fetch_error", task_id=disabled)["error"])
    assert error.startswith("green 2019-02 does not exist at ")
    assert "\n" not in error

    publish(mirror, "2019-02")
    fixed = luigi(*LOAD, "--month", "2019-02", **ui.environment)
    assert fixed.returncode == 0, fixed.stderr
    assert len(ui.tasks("DONE")) == 2


def test_permanent_failure_in_a_range_does_not_stop_other_months(
    luigi: Run, ui: CentralScheduler, mirror: Path
) -> None:
    publish(mirror, "2019-03")
    months = ("--start", "2019-01", "--stop", "2019-04", "--workers", "2")
    failed = luigi(*GREEN, *months, **ui.environment)

    assert failed.returncode == 30
    assert failed.stderr.count("running   ExtractTripdata(taxi=green, month=2019-02)") == 1
    assert [load_task(ui, f"2019-0{month}")["status"] for month in (1, 2, 3)] == ["DONE", "PENDING", "DONE"]

    publish(mirror, "2019-02")
    fixed = luigi(*GREEN, *months, **ui.environment)
    assert fixed.returncode == 0, fixed.stderr


def test_permanent_failure_of_a_batch_is_not_retried(
    tmp_path: Path, ui: CentralScheduler, environment: dict[str, str]
) -> None:
    (tmp_path / "batch.py").write_text(
        "import luigi\n"
        "from pipeline.errors import PipelineError\n"
        "from pipeline.tasks.base import PipelineTask\n"
        "class Batched(PipelineTask):\n"
        "    number = luigi.IntParameter(batch_method=max)\n"
        "    def complete(self):\n"
        "        return False\n"
        "    def run(self):\n"
        "        raise PipelineError('this cannot succeed')\n"
        "class Both(luigi.WrapperTask):\n"
        "    def requires(self):\n"
        "        return [Batched(number=1), Batched(number=2)]\n"
    )
    environment |= ui.environment | {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}
    failed = run_command("luigi", "--module", "batch", "Both", **environment)

    assert failed.returncode == 30
    assert failed.stderr.count("running   Batched") == 1
    assert {task["params"]["number"] for task in ui.tasks("DISABLED").values()} == {"1", "2"}


def test_temporary_failure_is_retried_and_does_not_stop_the_next_run(luigi: Run, ui: CentralScheduler) -> None:
    unreachable = {"PIPELINE__SOURCE__BASE_URL": "http://127.0.0.1:1", "PIPELINE__SOURCE__RETRIES": "0"}
    failed = luigi(*LOAD, "--month", "2019-01", **ui.environment, **unreachable)

    assert failed.returncode == 30
    assert failed.stderr.count("running   ExtractTripdata") == 3
    assert len(ui.tasks("DISABLED")) == 1

    assert luigi(*LOAD, "--month", "2019-01", **ui.environment).returncode == 0


def test_month_can_be_loaded_again_directly_after_its_load(
    luigi: Run, pipeline: Run, ui: CentralScheduler, database: PostgresDatabase
) -> None:
    load = (*LOAD, "--month", "2019-01")
    assert luigi(*load, **ui.environment).returncode == 0
    assert pipeline("forget", "--taxi", "green", "--month", "2019-01").returncode == 0

    again = luigi(*load, **ui.environment)
    assert again.returncode == 0, again.stderr
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(500,)]
    forced = luigi(*load, "--force", **ui.environment)
    assert forced.returncode == 0, forced.stderr
    assert forced.stderr.count("running   LoadTripdata") == 1


def test_run_after_a_killed_one_waits_until_its_claim_expires_and_loads(
    luigi: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02")
    luigi(*LOAD, "--month", "2019-02")
    environment["PIPELINE__SCHEDULER__WORKER_DISCONNECT_DELAY"] = "10"
    with central_scheduler(environment) as ui:
        with lock_held(database, INSERT_JANUARY_MARKER):
            command = ("--module", "pipeline", *LOAD, "--month", "2019-01")
            killed = start_command("luigi", *command, **environment, **ui.environment)
            wait_until_blocked(database, "INSERT INTO")
            os.kill(killed.pid, signal.SIGKILL)
            killed.communicate(timeout=20)
        again = luigi(*LOAD, "--month", "2019-01", **ui.environment)

    assert again.returncode == 0, again.stderr
    waiting = f"waiting for LoadTripdata(taxi=green, month=2019-01), run by process {killed.pid} on "
    assert again.stderr.count(waiting) == 1
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(600,)]


def test_run_waits_for_another_run_of_the_same_command(
    luigi: Run, ui: CentralScheduler, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02")
    luigi(*LOAD, "--month", "2019-02")
    command = ("--module", "pipeline", *LOAD, "--month", "2019-01")
    with lock_held(database, INSERT_JANUARY_MARKER):
        first = start_command("luigi", *command, **environment, **ui.environment)
        wait_until_blocked(database, "INSERT INTO")
        second = start_command("luigi", *command, **environment, **ui.environment)
        assert second.stdout
        assert any("waiting for LoadTripdata" in line for line in second.stdout)
    first.communicate(timeout=30)
    second.communicate(timeout=30)

    assert (first.returncode, second.returncode) == (0, 10)


def test_resource_limits_the_number_of_running_loads(
    ui: CentralScheduler, environment: dict[str, str], luigi: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, *MONTHS)
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-02")
    ui.call_api("update_resource", resource="postgres", amount=1)
    with lock_held(database, INSERT_JANUARY_MARKER):
        months = ("--start", "2019-01", "--stop", "2019-04", "--workers", "3")
        process = start_command("luigi", "--module", "pipeline", *GREEN, *months, **environment, **ui.environment)
        wait_until_blocked(database, "INSERT INTO")
        eventually(lambda: load_task(ui, "2019-01").get("status") == "RUNNING")
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
    luigi("LoadTripdata", "--taxi", "green", "--month", "2020-01")
    workers: dict[int, subprocess.Popen[str]] = {}
    with lock_held(database, INSERT_JANUARY_MARKER.replace("2019-01", "2019-06")):
        for _ in range(2):
            process = start_command("luigi", "--module", "pipeline", *YEAR, **environment, **ui.environment)
            workers[process.pid] = process
        eventually(lambda: load_task(ui, "2019-06").get("status") == "RUNNING")
        wait_until_blocked(database, "INSERT INTO")
        found = re.search(r"pid=(\d+)", load_task(ui, "2019-06")["worker_running"])
        assert found
        killed = workers.pop(int(found[1]))
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=20)
    ((_, survivor),) = workers.items()
    output, _ = survivor.communicate(timeout=60)

    assert survivor.returncode in (10, 25), output  # Luigi's codes where another worker ran some of the tasks
    assert luigi(*YEAR).returncode == 0
    loads = execute(database, "SELECT partition_key, rows_loaded FROM load_ledger ORDER BY 1")
    assert loads == [*((f"green/2019-{month:02}", 100) for month in range(1, 13)), ("green/2020-01", 100)]
    assert execute(database, "SELECT count(*), count(DISTINCT filename) FROM green_tripdata") == [(1300, 13)]
    completions_by_month = events_by_month(tmp_path, "DONE")
    starts_by_month = events_by_month(tmp_path, "RUNNING")
    assert set(completions_by_month.values()) == {1} and len(completions_by_month) == 12
    assert starts_by_month == {month: 2 if month == "2019-06" else 1 for month in completions_by_month}


def test_worker_continues_after_a_restart_of_the_central_scheduler(
    environment: dict[str, str], luigi: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, *MONTHS)
    luigi("LoadTripdata", "--taxi", "green", "--month", "2020-01")
    del environment["PIPELINE__SCHEDULER__WORKER_DISCONNECT_DELAY"]
    months = ("--start", "2019-01", "--stop", "2019-04")
    with lock_held(database, INSERT_JANUARY_MARKER), central_scheduler(environment) as ui:
        worker = start_command("luigi", "--module", "pipeline", *GREEN, *months, **environment, **ui.environment)
        wait_until_blocked(database, "INSERT INTO")
    with central_scheduler(environment, port=ui.port) as restarted:
        output, _ = worker.communicate(timeout=30)

        assert worker.returncode == 0, output
        assert len(restarted.tasks("DONE")) == 7


def events_by_month(root: Path, event: str) -> dict[str, int]:
    """The number of events of this name in the history, for the load of each month."""
    query = """
        SELECT value, count(*) FROM task_events
        JOIN tasks ON tasks.id = task_events.task_id
        JOIN task_parameters ON task_parameters.task_id = tasks.id AND task_parameters.name = 'month'
        WHERE tasks.name = 'LoadTripdata' AND event_name = ? GROUP BY 1
    """
    with sqlite3.connect(root / "data" / "ui" / "history.sqlite") as history:
        return dict(history.execute(query, (event,)).fetchall())
