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
    Held,
    forget_month,
    ledger_entry,
    load_lines,
    load_uploaded,
    set_aside,
    trips_in,
    upload_lines,
)
from loading_process import Forge
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
    assert set_aside(cloud) == []
    if operation == "forget":
        assert (entry, found, cloud.objects()) == (None, set(), [])
    else:
        assert entry and (entry.rows_loaded, len(trips_in(cloud)), found) == (7, 7, {"2019-02"})
        assert cloud.marker()["load_id"] == entry.load_id


@pytest.mark.parametrize("operation", LATER_OPERATIONS)
@pytest.mark.parametrize("moment", BEFORE_THE_LOCK)
def test_load_overtaken_by_a_later_operation_changes_nothing(
    loadable: GoogleCloud, tmp_path: Path, moment: str, operation: str
) -> None:
    upload_lines(loadable, OLD, tmp_path)
    held = Held(loadable, BEFORE_THE_LOCK[moment])
    with ThreadPoolExecutor(1) as worker:
        older = worker.submit(load_uploaded, loadable)
        assert held.came.wait(120)
        run_operation(loadable, operation, tmp_path)
        held.may_go.set()
        if operation == "forget":
            with pytest.raises(PipelineError, match="was removed before it was loaded; run again"):
                older.result(60)
        else:
            assert older.result(60) == ledger_entry(loadable)

    assert_is_result_of(loadable, operation)


@pytest.mark.parametrize("operation", LATER_OPERATIONS)
@pytest.mark.parametrize("moment", ["begin", "lock"])
def test_job_of_a_killed_process_overtaken_by_a_later_operation_changes_nothing(
    loadable: GoogleCloud, killable: Forge, tmp_path: Path, moment: str, operation: str
) -> None:
    held, job_has_ended = Held(loadable, BEFORE_THE_LOCK[moment]), job_of_killed_process(loadable, killable, tmp_path)
    assert held.came.wait(120)
    run_operation(loadable, operation, tmp_path)
    held.may_go.set()
    eventually(job_has_ended)

    assert_is_result_of(loadable, operation)


@pytest.mark.parametrize("operation", LATER_OPERATIONS)
@pytest.mark.parametrize("moment", HOLDING_THE_LOCK)
def test_later_operation_waits_for_the_running_transaction_of_a_killed_process(
    loadable: GoogleCloud, killable: Forge, tmp_path: Path, moment: str, operation: str
) -> None:
    held, job_has_ended = Held(loadable, HOLDING_THE_LOCK[moment]), job_of_killed_process(loadable, killable, tmp_path)
    assert held.came.wait(120)
    with ThreadPoolExecutor(1) as worker:
        second = worker.submit(run_operation, loadable, operation, tmp_path)
        eventually(lambda: conflicts(loadable))
        held.may_go.set()
        second.result(60)
        eventually(job_has_ended)

    assert_is_result_of(loadable, operation)


def test_forget_overtaken_by_a_load_removes_that_load(loadable: GoogleCloud, tmp_path: Path) -> None:
    load_lines(loadable, OLD, tmp_path)
    held = Held(loadable, "^POST /bigquery.*tlc_forget")
    with ThreadPoolExecutor(1) as worker:
        forgotten = worker.submit(forget_month, loadable)
        assert held.came.wait(120)
        load_lines(loadable, NEW, tmp_path)
        held.may_go.set()
        assert forgotten.result(60)

    assert_is_result_of(loadable, "forget")


def test_forget_of_a_killed_process_overtaken_by_a_load_changes_nothing(
    loadable: GoogleCloud, killable: Forge, tmp_path: Path
) -> None:
    load_lines(loadable, OLD, tmp_path)
    held = Held(loadable, "^RUN tlc_forget")
    process = killable.start("forget", loadable)
    loadable.wire.inject("^GET /bigquery.*tlc_forget", request_dropped=True, action=kill_process(process))
    assert killable.go() == -signal.SIGKILL
    load_lines(loadable, NEW, tmp_path)
    held.may_go.set()
    eventually(lambda: all(job["status"]["state"] == "DONE" for job in loadable.jobs()))

    assert_is_result_of(loadable, "newer edition")


def test_forget_killed_before_it_removed_the_marker_leaves_no_finished_load(
    loadable: GoogleCloud, killable: Forge, tmp_path: Path
) -> None:
    load_lines(loadable, OLD, tmp_path)
    process = killable.start("forget", loadable)
    loadable.wire.inject("^DELETE /storage.*_ledger", request_dropped=True, action=kill_process(process))
    assert killable.go() == -signal.SIGKILL
    assert loadable.marker()["finished_at"]  # the copy in the bucket is out of date
    assert (ledger_entry(loadable), trips_in(loadable)) == (None, [])

    upload_lines(loadable, NEW, tmp_path)
    load_uploaded(loadable)
    assert_is_result_of(loadable, "newer edition")


def test_row_id_in_two_months_loaded_at_the_same_time_is_inserted_once(loadable: GoogleCloud, tmp_path: Path) -> None:
    stray = trip(5, JANUARY)
    upload_lines(loadable, trips(9), tmp_path)
    upload_lines(loadable, [*trips(2, FEBRUARY), stray], tmp_path, FEBRUARY)
    held = Held(loadable, "^STEP tlc_load[^ ]* COMMIT")
    with ThreadPoolExecutor(2) as workers:
        january = workers.submit(load_uploaded, loadable)
        assert held.came.wait(120)
        february = workers.submit(load_uploaded, loadable, FEBRUARY)
        eventually(lambda: conflicts(loadable))
        held.may_go.set()
        counts = [(work.result(60).rows_loaded, work.result(60).rows_duplicate) for work in (january, february)]

    assert counts == [(9, 0), (2, 1)]
    assert len(trips_in(loadable)) == len({row_id for row_id, _, _ in trips_in(loadable)}) == 11
    assert set_aside(loadable) == [("duplicate_of_other_file", "green_tripdata_2019-02.csv", 1)]


def conflicts(cloud: GoogleCloud) -> list[str]:
    """The errors of jobs that BigQuery aborted because of a concurrent change."""
    errors = [job["status"].get("errorResult", {}).get("message", "") for job in cloud.jobs()]
    return [error for error in errors if "aborted due to concurrent update" in error]


def job_of_killed_process(cloud: GoogleCloud, killable: Forge, folder: Path) -> Callable[[], bool]:
    """Starts a process that submits the load of the old edition, and kills it.

    Returns a function that says whether the job has ended.
    """
    file = folder / f"{FILE}.lines"
    file.write_bytes(b"\n".join(OLD))
    process = killable.start("load", cloud, file)
    cloud.wire.inject("^GET /bigquery.*jobs/tlc_load", request_dropped=True, action=kill_process(process))
    assert killable.go() == -signal.SIGKILL

    def has_ended() -> bool:
        jobs = [job for job in cloud.jobs() if job["jobReference"]["jobId"].startswith("tlc_load")]
        return bool(jobs) and jobs[0]["status"]["state"] == "DONE"

    return has_ended


def kill_process(process: int) -> Callable[[], None]:
    """A function that kills the process."""
    return lambda: os.kill(process, signal.SIGKILL)
