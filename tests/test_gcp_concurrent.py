"""Loads and `forget`s of one table at the same time, also by killed processes: each happens completely, in sequence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import JANUARY
from gcp import GoogleCloud
from gcp_trips import (
    FILE,
    BlockedRequest,
    forget_month,
    ledger_entry,
    load_lines,
    load_uploaded,
    quarantined_rows,
    trips_in,
    upload_lines,
)
from loading_process import ProcessSource
from trips import FEBRUARY, trip, trips
from waiting import eventually

from pipeline.errors import PipelineError

OLD = [*trips(4), trip(2)]
NEW = [trip(number, FEBRUARY) for number in range(2, 9)]  # on other days than OLD
SUBMIT, BEGIN = "^POST /bigquery.*tlc_load", "^RUN tlc_load"
BEFORE_THE_LOCK = {"submit": SUBMIT, "begin": BEGIN, "lock": "^STEP tlc_load[^ ]* UPDATE"}
HOLDING_THE_LOCK = {
    "insert": "^STEP tlc_load[^ ]* INSERT INTO .*green_trip",
    "entry": "^STEP tlc_load[^ ]* INSERT INTO .*load_ledger",
    "commit": "^STEP tlc_load[^ ]* COMMIT",
}
LATER_OPERATIONS = ("newer edition", "forget")


def run_operation(cloud: GoogleCloud, operation: str, folder: Path) -> None:
    if operation == "forget":
        assert forget_month(cloud)
    else:
        load_lines(cloud, NEW, folder)


def assert_is_result_of(cloud: GoogleCloud, operation: str) -> None:
    entry, found = ledger_entry(cloud), {time[:7] for _, _, time in trips_in(cloud)}
    assert quarantined_rows(cloud) == []
    if operation == "forget":
        assert (entry, found, cloud.objects()) == (None, set(), [])
    else:
        assert entry and (entry.rows_loaded, len(trips_in(cloud)), found) == (7, 7, {"2019-02"})
        assert cloud.marker()["load_id"] == entry.load_id


@pytest.mark.parametrize("operation", LATER_OPERATIONS)
@pytest.mark.parametrize("moment", BEFORE_THE_LOCK)
def test_load_overtaken_by_a_later_operation_changes_nothing(
    prepared_cloud: GoogleCloud, tmp_path: Path, moment: str, operation: str
) -> None:
    upload_lines(prepared_cloud, OLD, tmp_path)
    held = BlockedRequest(prepared_cloud, BEFORE_THE_LOCK[moment])
    with ThreadPoolExecutor(1) as worker:
        older = worker.submit(load_uploaded, prepared_cloud)
        assert held.arrived.wait(120)
        run_operation(prepared_cloud, operation, tmp_path)
        held.may_continue.set()
        if operation == "forget":
            with pytest.raises(PipelineError, match="was removed before it was loaded; run again"):
                older.result(60)
        else:
            assert older.result(60) == ledger_entry(prepared_cloud)

    assert_is_result_of(prepared_cloud, operation)


@pytest.mark.parametrize("operation", LATER_OPERATIONS)
@pytest.mark.parametrize("moment", ["begin", "lock"])
def test_job_of_a_killed_process_overtaken_by_a_later_operation_changes_nothing(
    prepared_cloud: GoogleCloud, killable_processes: ProcessSource, tmp_path: Path, moment: str, operation: str
) -> None:
    held, job_has_ended = (
        BlockedRequest(prepared_cloud, BEFORE_THE_LOCK[moment]),
        job_of_killed_process(prepared_cloud, killable_processes, tmp_path),
    )
    assert held.arrived.wait(120)
    run_operation(prepared_cloud, operation, tmp_path)
    held.may_continue.set()
    eventually(job_has_ended)

    assert_is_result_of(prepared_cloud, operation)


@pytest.mark.parametrize("operation", LATER_OPERATIONS)
@pytest.mark.parametrize("moment", HOLDING_THE_LOCK)
def test_later_operation_waits_for_the_running_transaction_of_a_killed_process(
    prepared_cloud: GoogleCloud, killable_processes: ProcessSource, tmp_path: Path, moment: str, operation: str
) -> None:
    held, job_has_ended = (
        BlockedRequest(prepared_cloud, HOLDING_THE_LOCK[moment]),
        job_of_killed_process(prepared_cloud, killable_processes, tmp_path),
    )
    assert held.arrived.wait(120)
    with ThreadPoolExecutor(1) as worker:
        second = worker.submit(run_operation, prepared_cloud, operation, tmp_path)
        eventually(lambda: conflicts(prepared_cloud))
        held.may_continue.set()
        second.result(60)
        eventually(job_has_ended)

    assert_is_result_of(prepared_cloud, operation)


def test_forget_overtaken_by_a_load_removes_that_load(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    load_lines(prepared_cloud, OLD, tmp_path)
    held = BlockedRequest(prepared_cloud, "^POST /bigquery.*tlc_forget")
    with ThreadPoolExecutor(1) as worker:
        forgotten = worker.submit(forget_month, prepared_cloud)
        assert held.arrived.wait(120)
        load_lines(prepared_cloud, NEW, tmp_path)
        held.may_continue.set()
        assert forgotten.result(60)

    assert_is_result_of(prepared_cloud, "forget")


def test_forget_of_a_killed_process_overtaken_by_a_load_changes_nothing(
    prepared_cloud: GoogleCloud, killable_processes: ProcessSource, tmp_path: Path
) -> None:
    load_lines(prepared_cloud, OLD, tmp_path)
    held = BlockedRequest(prepared_cloud, "^RUN tlc_forget")
    process = killable_processes.start("forget", prepared_cloud)
    prepared_cloud.wire.inject("^GET /bigquery.*tlc_forget", request_dropped=True, action=kill_process(process))
    assert killable_processes.go() == -signal.SIGKILL
    load_lines(prepared_cloud, NEW, tmp_path)
    held.may_continue.set()
    eventually(lambda: all(job["status"]["state"] == "DONE" for job in prepared_cloud.jobs()))

    assert_is_result_of(prepared_cloud, "newer edition")


def test_forget_killed_before_it_removed_the_marker_leaves_no_finished_load(
    prepared_cloud: GoogleCloud, killable_processes: ProcessSource, tmp_path: Path
) -> None:
    load_lines(prepared_cloud, OLD, tmp_path)
    process = killable_processes.start("forget", prepared_cloud)
    prepared_cloud.wire.inject("^DELETE /storage.*_ledger", request_dropped=True, action=kill_process(process))
    assert killable_processes.go() == -signal.SIGKILL
    assert prepared_cloud.marker()["finished_at"]  # the copy in the bucket is out of date
    assert (ledger_entry(prepared_cloud), trips_in(prepared_cloud)) == (None, [])

    upload_lines(prepared_cloud, NEW, tmp_path)
    load_uploaded(prepared_cloud)
    assert_is_result_of(prepared_cloud, "newer edition")


def test_row_id_in_two_months_loaded_at_the_same_time_is_inserted_once(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    stray = trip(5, JANUARY)
    upload_lines(prepared_cloud, trips(9), tmp_path)
    upload_lines(prepared_cloud, [*trips(2, FEBRUARY), stray], tmp_path, FEBRUARY)
    held = BlockedRequest(prepared_cloud, "^STEP tlc_load[^ ]* COMMIT")
    with ThreadPoolExecutor(2) as workers:
        january = workers.submit(load_uploaded, prepared_cloud)
        assert held.arrived.wait(120)
        february = workers.submit(load_uploaded, prepared_cloud, FEBRUARY)
        eventually(lambda: conflicts(prepared_cloud))
        held.may_continue.set()
        counts = [(work.result(60).rows_loaded, work.result(60).rows_duplicate) for work in (january, february)]

    assert counts == [(9, 0), (2, 1)]
    assert len(trips_in(prepared_cloud)) == len({row_id for row_id, _, _ in trips_in(prepared_cloud)}) == 11
    assert quarantined_rows(prepared_cloud) == [("duplicate_of_other_file", "green_tripdata_2019-02.csv", 1)]


def conflicts(cloud: GoogleCloud) -> list[str]:
    """The errors of jobs that BigQuery aborted because of a concurrent change."""
    errors = [job["status"].get("errorResult", {}).get("message", "") for job in cloud.jobs()]
    return [error for error in errors if "aborted due to concurrent update" in error]


def job_of_killed_process(cloud: GoogleCloud, killable_processes: ProcessSource, folder: Path) -> Callable[[], bool]:
    """Starts a process that submits the load of the old edition, and kills it.

    Returns a function that says whether the job has ended.
    """
    file = folder / f"{FILE}.lines"
    file.write_bytes(b"\n".join(OLD))
    process = killable_processes.start("load", cloud, file)
    cloud.wire.inject("^GET /bigquery.*jobs/tlc_load", request_dropped=True, action=kill_process(process))
    assert killable_processes.go() == -signal.SIGKILL

    def has_ended() -> bool:
        jobs = [job for job in cloud.jobs() if job["jobReference"]["jobId"].startswith("tlc_load")]
        return bool(jobs) and jobs[0]["status"]["state"] == "DONE"

    return has_ended


def kill_process(process: int) -> Callable[[], None]:
    """A function that kills the process."""
    return lambda: os.kill(process, signal.SIGKILL)
