"""Loads and forgets of one table at the same time, dead ones included: each happens wholly, one after the other."""

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
NEW = [trip(number, FEBRUARY) for number in range(2, 9)]  # on other days
SUBMIT, BEGIN = "^POST /bigquery.*tlc_load", "^RUN tlc_load"
BEFORE_THE_LOCK = {"submit": SUBMIT, "begin": BEGIN, "lock": "^STEP tlc_load[^ ]* UPDATE"}
HOLDING_THE_LOCK = {
    "insert": "^STEP tlc_load[^ ]* INSERT INTO .*green_trip",
    "entry": "^STEP tlc_load[^ ]* INSERT INTO .*load_ledger",
    "commit": "^STEP tlc_load[^ ]* COMMIT",
}
LATER = ("newer edition", "forget")


def run_later(cloud: GoogleCloud, later: str, folder: Path) -> None:
    if later == "forget":
        assert forget_month(cloud)
    else:
        load_lines(cloud, NEW, folder)


def assert_is_as_after(cloud: GoogleCloud, later: str) -> None:
    entry, found = ledger_entry(cloud), {time[:7] for _, _, time in trips_in(cloud)}
    assert set_aside(cloud) == []
    if later == "forget":
        assert (entry, found, cloud.objects()) == (None, set(), [])
    else:
        assert entry and (entry.rows_loaded, len(trips_in(cloud)), found) == (7, 7, {"2019-02"})
        assert cloud.marker()["load_id"] == entry.load_id


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("moment", BEFORE_THE_LOCK)
def test_worker_that_was_overtaken_changes_nothing(
    loadable: GoogleCloud, tmp_path: Path, moment: str, later: str
) -> None:
    upload_lines(loadable, OLD, tmp_path)
    held = Held(loadable, BEFORE_THE_LOCK[moment])
    with ThreadPoolExecutor(1) as worker:
        older = worker.submit(load_uploaded, loadable)
        assert held.came.wait(120)
        run_later(loadable, later, tmp_path)
        held.may_go.set()
        if later == "forget":
            with pytest.raises(PipelineError, match="was removed before it was loaded; run again"):
                older.result(60)
        else:
            assert older.result(60) == ledger_entry(loadable)

    assert_is_as_after(loadable, later)


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("moment", ["begin", "lock"])
def test_job_of_a_dead_worker_that_was_overtaken_changes_nothing(
    loadable: GoogleCloud, killable: Forge, tmp_path: Path, moment: str, later: str
) -> None:
    held, job = Held(loadable, BEFORE_THE_LOCK[moment]), dead_workers_job(loadable, killable, tmp_path)
    assert held.came.wait(120)
    run_later(loadable, later, tmp_path)
    held.may_go.set()
    eventually(job)

    assert_is_as_after(loadable, later)


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("moment", HOLDING_THE_LOCK)
def test_dead_workers_transaction_that_is_under_way_is_waited_for(
    loadable: GoogleCloud, killable: Forge, tmp_path: Path, moment: str, later: str
) -> None:
    held, job = Held(loadable, HOLDING_THE_LOCK[moment]), dead_workers_job(loadable, killable, tmp_path)
    assert held.came.wait(120)
    with ThreadPoolExecutor(1) as worker:
        second = worker.submit(run_later, loadable, later, tmp_path)
        eventually(lambda: conflicts(loadable))
        held.may_go.set()
        second.result(60)
        eventually(job)

    assert_is_as_after(loadable, later)


def test_forget_that_was_overtaken_by_a_load_forgets_that(loadable: GoogleCloud, tmp_path: Path) -> None:
    load_lines(loadable, OLD, tmp_path)
    held = Held(loadable, "^POST /bigquery.*tlc_forget")
    with ThreadPoolExecutor(1) as worker:
        forgotten = worker.submit(forget_month, loadable)
        assert held.came.wait(120)
        load_lines(loadable, NEW, tmp_path)
        held.may_go.set()
        assert forgotten.result(60)

    assert_is_as_after(loadable, "forget")


def test_dead_forget_that_was_overtaken_changes_nothing(loadable: GoogleCloud, killable: Forge, tmp_path: Path) -> None:
    load_lines(loadable, OLD, tmp_path)
    held = Held(loadable, "^RUN tlc_forget")
    process = killable.start("forget", loadable)
    loadable.wire.happens("^GET /bigquery.*tlc_forget", dropped=True, meanwhile=killer(process))
    assert killable.go() == -signal.SIGKILL
    load_lines(loadable, NEW, tmp_path)
    held.may_go.set()
    eventually(lambda: all(job["status"]["state"] == "DONE" for job in loadable.jobs()))

    assert_is_as_after(loadable, "newer edition")


def test_forget_killed_after_it_forgot_is_no_finished_load(
    loadable: GoogleCloud, killable: Forge, tmp_path: Path
) -> None:
    load_lines(loadable, OLD, tmp_path)
    process = killable.start("forget", loadable)
    loadable.wire.happens("^DELETE /storage.*_ledger", dropped=True, meanwhile=killer(process))
    assert killable.go() == -signal.SIGKILL
    assert loadable.marker()["finished_at"]  # a copy of what was
    assert (ledger_entry(loadable), trips_in(loadable)) == (None, [])

    upload_lines(loadable, NEW, tmp_path)
    load_uploaded(loadable)
    assert_is_as_after(loadable, "newer edition")


def test_two_months_with_one_stray_id_at_the_same_moment_put_it_in_once(loadable: GoogleCloud, tmp_path: Path) -> None:
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
    """What BigQuery cancelled because of another change at the same time."""
    errors = [job["status"].get("errorResult", {}).get("message", "") for job in cloud.jobs()]
    return [error for error in errors if "aborted due to concurrent update" in error]


def dead_workers_job(cloud: GoogleCloud, killable: Forge, folder: Path) -> Callable[[], bool]:
    """Lets a process submit the load of the old edition and be killed; returns what says that the job is over."""
    file = folder / f"{FILE}.lines"
    file.write_bytes(b"\n".join(OLD))
    process = killable.start("load", cloud, file)
    cloud.wire.happens("^GET /bigquery.*jobs/tlc_load", dropped=True, meanwhile=killer(process))
    assert killable.go() == -signal.SIGKILL

    def is_over() -> bool:
        jobs = [job for job in cloud.jobs() if job["jobReference"]["jobId"].startswith("tlc_load")]
        return bool(jobs) and jobs[0]["status"]["state"] == "DONE"

    return is_over


def killer(process: int) -> Callable[[], None]:
    return lambda: os.kill(process, signal.SIGKILL)
