"""The log of a run: a file with one JSON line for each event, and standard error as text or JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, CHECKOUT, Run, publish, settings
from gcp import GoogleCloud
from http_source import Fault, HttpSource
from waiting import eventually

from pipeline.monitoring.logs import RunLog
from pipeline.monitoring.run_logs import RunLogs, TaskRun, last_attempts
from pipeline.warehouses import WAREHOUSES
from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")
BACKFILL = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi":"green"}', "--start", "2019-01")


def logs_of(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / "logs").glob("*"))


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write_attempts(folder: Path, attempts: list[str]) -> None:
    """Writes the log of a run for each attempt at green 2019-01: a task's name and its status."""
    folder.mkdir(parents=True, exist_ok=True)
    month = {"dataset": "green", "month": "2019-01", "parameters": {"taxi": "green", "month": "2019-01"}}
    for day, attempt in enumerate(attempts, start=1):
        task, status = attempt.split()
        line = {"time": f"2020-01-0{day}T00:00:00.000+00:00", "task": task, "event": status, **month}
        (folder / f"2020010{day}T000000-1.jsonl").write_text(json.dumps(line) + "\n")


def test_log_records_completed_tasks_as_fields(luigi: Run, tmp_path: Path) -> None:
    assert luigi(*LOAD).returncode == 0
    (log,) = logs_of(tmp_path)
    lines = lines_of(log)
    extracted, loaded = (line for line in lines if line.get("event") == "done")

    assert (extracted["task"], loaded["task"]) == ("ExtractTripdata", "LoadTripdata")
    assert (loaded["dataset"], loaded["month"], loaded["rows"]) == ("green", "2019-01", 500)
    assert loaded["rows_duplicate"] == loaded["rows_rejected"] == 0
    released = (tmp_path / "mirror" / "green" / "green_tripdata_2019-01.csv.gz").stat().st_size
    assert extracted["bytes"] == loaded["bytes"] == released
    assert 0.1 < loaded["ratio"] == extracted["ratio"] < 0.5
    assert loaded["seconds"] > 0
    assert "Luigi Execution Summary" in lines[-1]["message"]


def test_log_contains_the_error_in_one_line(luigi: Run, tmp_path: Path) -> None:
    assert luigi(*LOAD[:-1], "2031-05").returncode == 30
    (log,) = logs_of(tmp_path)
    (failed,) = [line for line in lines_of(log) if line.get("event") == "failed"]

    assert failed["level"] == "ERROR" and failed["error"].startswith("green 2031-05 does not exist at ")
    assert "traceback" not in failed


def test_run_with_nothing_to_do_writes_no_log(luigi: Run, tmp_path: Path) -> None:
    assert luigi(*LOAD).returncode == 0
    before = logs_of(tmp_path)
    assert luigi(*LOAD).returncode == 0

    assert logs_of(tmp_path) == before


def test_workers_write_complete_lines_to_one_log(luigi: Run, tmp_path: Path, mirror: Path) -> None:
    publish(mirror, *(f"2019-0{month}" for month in range(2, 7)))
    done = luigi(*BACKFILL, "--stop", "2019-07", "--workers", "4", PIPELINE__LOGS__FORMAT="json")

    assert done.returncode == 0, done.stderr
    (log,) = logs_of(tmp_path)
    for lines in (lines_of(log), [json.loads(line) for line in done.stderr.splitlines()]):
        loads = [line for line in lines if line.get("event") == "done" and line["task"] == "LoadTripdata"]
        assert sorted(line["month"] for line in loads) == [f"2019-0{n}" for n in range(1, 7)]
        assert len({line["pid"] for line in lines}) > 6
    messages = [line["message"] for line in lines_of(log)]
    assert sum(message.startswith("Running Worker with 4") for message in messages) == 1


def test_auto_format_is_json_unless_standard_error_is_a_terminal(
    luigi: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    piped = luigi(*LOAD, "--logs-format", "auto")
    assert [json.loads(line)["level"] for line in piped.stderr.splitlines()]

    command = [BIN / "luigi", "--module", "pipeline", *LOAD, "--force", "--logs-format", "auto"]
    terminal, process_end = pty.openpty()
    environment = os.environ | settings(tmp_path, database, mirror)
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=process_end):
        os.close(process_end)
        assert re.match(rb"\d\d:\d\d:\d\d running   ExtractTripdata", os.read(terminal, 1000))
        with contextlib.suppress(OSError):  # on Linux, the error that means that the other end is closed
            while os.read(terminal, 1000):
                pass
    os.close(terminal)


def test_old_logs_are_deleted_and_an_unwritable_log_causes_one_warning(luigi: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "logs"
    folder.mkdir(parents=True)
    for name, days in (("old.jsonl", 40), ("recent.jsonl", 20), ("notes.txt", 40)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - days * 86_400,) * 2)
    assert luigi(*LOAD).returncode == 0
    assert {"recent.jsonl", "notes.txt"} < {file.name for file in logs_of(tmp_path)}
    assert "old.jsonl" not in {file.name for file in logs_of(tmp_path)}

    for file in logs_of(tmp_path):
        file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    done = luigi(*LOAD, "--force")
    assert done.returncode == 0
    (warning,) = [line for line in done.stderr.splitlines() if "WARNING: " in line]
    assert "this run writes no log: " in warning and str(folder) in warning


def test_lines_have_timestamps_and_count_the_months_without_worker_ids(luigi: Run, mirror: Path) -> None:
    publish(mirror, "2019-02", "2019-03")
    done = luigi(*BACKFILL, "--stop", "2019-04", "--workers", "2")
    lines, _, summary = done.stderr.partition("\n===== Luigi Execution Summary =====\n")

    assert done.returncode == 0
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO: ", line) for line in lines.splitlines())
    assert [line[-18:] for line in lines.splitlines() if "months done" in line] == [
        f"{number} of 3 months done" for number in (1, 2, 3)
    ]
    assert "salt=" not in lines and "Informed scheduler" not in lines
    assert "* 7 ran successfully:" in summary


def test_last_line_before_the_summary_is_the_reason_of_a_failure(luigi: Run, mirror: Path) -> None:
    publish(mirror, "2019-01", "2019-03")
    failed = luigi(*BACKFILL, "--stop", "2019-04")
    last = failed.stderr.partition("\n===== Luigi Execution Summary =====\n")[0].splitlines()[-1]

    assert failed.returncode == 30
    assert "ERROR: failed    ExtractTripdata(taxi=green, month=2019-02): green 2019-02 does not exist" in last


@pytest.mark.parametrize("workers", ["1", "3"])
def test_ctrl_c_is_reported_in_one_line(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, site: HttpSource, workers: str
) -> None:
    publish(mirror, "2019-02", "2019-03")
    for file in (mirror / "green").iterdir():
        site.files[f"/green/{file.name}"] = file.read_bytes()
    site.later_fault = Fault(stall_after=100)
    command = [BIN / "luigi", "--module", "pipeline", *BACKFILL, "--stop", "2019-04", "--workers", workers]
    environment = os.environ | settings(tmp_path, database, mirror) | {"PIPELINE__SOURCE__BASE_URL": site.url}
    # A session of its own, because ctrl-C in a terminal reaches all processes of the session.
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    eventually(lambda: len(site.requests) >= int(workers))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    *lines, last = errors.splitlines()
    assert all("INFO: running   ExtractTripdata" in line for line in lines)
    assert "ERROR: interrupted; completed tasks stay complete: run the same command again" in last


def test_ctrl_c_also_leaves_out_the_other_warehouse(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, site: HttpSource
) -> None:
    site.files["/green/green_tripdata_2019-01.csv.gz"] = (mirror / "green/green_tripdata_2019-01.csv.gz").read_bytes()
    site.later_fault = Fault(stall_after=100)
    command = [BIN / "pipeline", "load", "green", "2019-01", "--warehouse", "both"]
    environment = os.environ | settings(tmp_path, database, mirror) | {"PIPELINE__SOURCE__BASE_URL": site.url}
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    eventually(lambda: len(site.requests) >= 1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "LoadTripdataToBigQuery" not in errors and "ERROR: interrupted" in errors.splitlines()[-1]


def test_task_started_again_after_it_yielded_others_is_one_attempt(tmp_path: Path) -> None:
    whole, report = ("TripdataPipeline", {"month": "2019-01"}), ("Report", {})
    events = [(whole, "running"), (report, "running"), (report, "done"), (whole, "running"), (whole, "done")]
    events += [(report, "running"), (report, "failed"), (report, "running")]
    lines = [
        {"time": f"2019-01-01T00:00:0{second}.000+00:00", "task": task, "parameters": parameters, "event": event}
        for second, ((task, parameters), event) in enumerate(events)
    ]
    log = tmp_path / "20190101T000000-1.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))

    (summary,) = RunLogs(tmp_path).summaries()
    attempts = [(task.task, task.started[18], task.ended[18:19], task.status) for task in summary.tasks]
    assert attempts == [
        ("TripdataPipeline", "0", "4", "done"),
        ("Report", "1", "2", "done"),
        ("Report", "5", "6", "failed"),
        ("Report", "7", "", "running"),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", 1),
        ("task", ["x"]),
        ("parameters", "x"),
        ("dataset", []),
        ("month", 201901),
        ("pid", "1"),
        ("seconds", "1"),
        ("error", 1),
    ],
)
def test_line_of_a_log_with_a_value_of_another_type_is_left_out(tmp_path: Path, field: str, value: object) -> None:
    good = {"time": "2019-01-01T00:00:00.000+00:00", "task": "LoadTripdata", "parameters": {}, "event": "done"}
    good |= {"dataset": "green", "month": "2019-01"}
    log = tmp_path / "20190101T000000-1.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in (good, good | {field: value})))

    runs = RunLogs(tmp_path).summaries()

    assert [(run.started, run.latest, len(run.tasks)) for run in runs] == [(good["time"], good["time"], 1)]
    assert last_attempts(runs, ["postgres"])


def test_run_locks_its_log_although_the_page_looks_at_the_lock_while_it_is_opened(tmp_path: Path) -> None:
    log = RunLog()
    name = log.file_name
    with (tmp_path / name).open("w") as page:
        fcntl.flock(page, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (page, fcntl.LOCK_UN)).start()
        log.open(tmp_path, 1)

    assert RunLogs(tmp_path).is_running(name.removesuffix(".jsonl"))


@pytest.mark.parametrize(
    ("attempts", "failed"),
    [
        (["ExtractTripdata failed"], ["postgres", "bigquery"]),
        (["LoadTripdata failed"], ["postgres"]),
        (["UploadTripdata failed"], ["bigquery"]),
        (["LoadTripdataToBigQuery failed"], ["bigquery"]),
        (["LoadTripdata failed", "ExtractTripdata done", "UploadTripdata done"], ["postgres"]),
        (["LoadTripdata failed", "LoadTripdataToBigQuery done"], ["postgres"]),
        (["ExtractTripdata failed", "ExtractTripdata done", "LoadTripdata done"], ["bigquery"]),
        (["LoadTripdata failed", "ReconcileTripdata done"], ["postgres"]),
    ],
)
def test_last_attempt_at_a_month_is_that_of_a_warehouse(tmp_path: Path, attempts: list[str], failed: list[str]) -> None:
    write_attempts(tmp_path, attempts)

    found = last_attempts(RunLogs(tmp_path).summaries(), ["postgres", "bigquery"])
    assert {key for _, key in found} == {"green/2019-01"}
    assert [warehouse for (warehouse, _), (_, task) in found.items() if task.status == "failed"] == failed


def test_attempt_without_an_end_counts_if_its_run_is_active(tmp_path: Path) -> None:
    write_attempts(tmp_path, ["LoadTripdata failed", "LoadTripdata running"])

    newest, oldest = runs = RunLogs(tmp_path).summaries()
    for active, expected in (([], (oldest.id, "failed")), ([newest.id], (newest.id, "running"))):
        ((run, task),) = last_attempts(runs, ["postgres"], active).values()
        assert (run, task.status) == expected


def test_status_marks_a_failed_month_in_its_warehouse_only(
    pipeline: Run, prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    write_attempts(tmp_path / "data" / "logs", ["LoadTripdata done", "LoadTripdataToBigQuery failed"])

    shown = pipeline("status", "--grid", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["months"] == {"postgres": {}, "bigquery": {"green": {"2019-01": "failed"}}}


@pytest.mark.parametrize(
    ("task", "chosen", "served"),
    [
        ("ExtractTripdata", {}, ["postgres", "bigquery"]),
        ("LoadTripdata", {}, ["postgres"]),
        ("UploadTripdata", {}, ["bigquery"]),
        ("LoadTripdataToBigQuery", {}, ["bigquery"]),
        ("ReconcileTripdata", {}, ["postgres", "bigquery"]),
        ("ModelTripdata", {"warehouse": "bigquery"}, ["bigquery"]),
        ("TripdataPipeline", {"warehouse": "both"}, ["postgres", "bigquery"]),
    ],
)
def test_card_of_a_month_has_the_tasks_that_serve_its_warehouse(
    task: str, chosen: dict[str, str], served: list[str]
) -> None:
    run = TaskRun(task, {"taxi": "green", **chosen}, "green", "2019-01", started="", pid=1)
    assert [name for name in WAREHOUSES if run.serves(name)] == served
