"""kill -9 at any moment: the month is loaded completely or not at all, and the next load completes it."""

from __future__ import annotations

import random
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import JANUARY, Run, execute, settings, start_command
from loading_process import start
from trips import FEBRUARY, loading_tables, partitions, row_count, trip, trips, write_load_job
from waiting import INSERT_JANUARY_MARKER, lock_held, wait_for_sessions_to_end, wait_until_blocked

from pipeline.datasets import Dataset
from pipeline.progress import silent
from pipeline.sample import write_month
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

# Enough rows for the load to be killed in the middle, and a row of each kind that is quarantined.
LINES = [*trips(3000), b"malformed", trip(9), trip(30, FEBRUARY)]
LOADED = 3000


@pytest.fixture(autouse=True)
def february(database: PostgresDatabase, tmp_path: Path) -> None:
    """Loads another month, which must stay unchanged; it contains one of January's rows."""
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)


def kill(process: subprocess.Popen[str], database: PostgresDatabase) -> None:
    process.kill()
    process.communicate(timeout=20)
    wait_for_sessions_to_end(database, database.schema)


def january_is_absent(database: PostgresDatabase) -> bool:
    """Returns whether January is not loaded at all; fails if it is loaded in part."""
    markers = execute(database, "SELECT rows_loaded FROM load_ledger WHERE partition_key = 'green/2019-01'")
    rows = row_count(database) - 40
    quarantined = row_count(database, "load_quarantine")
    attached = "green_tripdata_2019_01" in partitions(database)
    absent = (markers, rows, quarantined, attached) == ([], 0, 0, False)
    assert absent or (markers, rows, quarantined, attached) == ([(LOADED,)], LOADED, 3, True)
    return absent


def assert_load_completes(database: PostgresDatabase, folder: Path) -> None:
    entry = load(database, write_load_job(LINES, folder, max_bad_rows=1), silent)
    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (3003, LOADED, 2, 1)
    assert not january_is_absent(database)
    assert loading_tables(database) == []


def test_load_killed_while_staging_leaves_nothing_visible(database: PostgresDatabase, tmp_path: Path) -> None:
    process = start(database, LINES, tmp_path, "hold")
    assert process.stdout is not None
    assert process.stdout.readline() == "staging\n"
    assert loading_tables(database) == ["green_tripdata_2019_01_loading"]
    kill(process, database)

    assert january_is_absent(database)
    assert_load_completes(database, tmp_path)


def test_load_killed_while_indexing_leaves_nothing_visible(database: PostgresDatabase, tmp_path: Path) -> None:
    process = start(database, LINES, tmp_path, "hold")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "staging\n"
    # While this lock is held, rows can still be copied, but the table cannot be indexed or altered.
    with lock_held(database, "LOCK TABLE green_tripdata_2019_01_loading IN ROW EXCLUSIVE MODE"):
        process.stdin.write("go on\n")
        process.stdin.flush()
        wait_until_blocked(database, "ALTER TABLE .*DROP EXPRESSION")
        kill(process, database)

    assert january_is_absent(database)
    assert_load_completes(database, tmp_path)


def test_load_killed_just_before_its_commit_leaves_nothing_visible(database: PostgresDatabase, tmp_path: Path) -> None:
    with lock_held(database, INSERT_JANUARY_MARKER):
        process = start(database, LINES, tmp_path)
        wait_until_blocked(database, "INSERT INTO .*load_ledger")
        kill(process, database)

    assert january_is_absent(database)
    assert_load_completes(database, tmp_path)


def test_replacement_killed_just_before_its_commit_leaves_the_old_month(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    assert_load_completes(database, tmp_path)
    with lock_held(database, "SELECT FROM load_ledger WHERE partition_key = 'green/2019-01' FOR KEY SHARE"):
        process = start(database, trips(10), tmp_path, "replace")
        wait_until_blocked(database, "DELETE FROM .*load_ledger")
        kill(process, database)

    assert not january_is_absent(database)
    entry = load(database, write_load_job(trips(10), tmp_path, replace=True), silent)
    assert (entry.rows_loaded, row_count(database)) == (10, 50)
    assert loading_tables(database) == []


def test_load_killed_right_after_its_commit_is_complete(database: PostgresDatabase, tmp_path: Path) -> None:
    process = start(database, LINES, tmp_path, "hold")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(2)] == ["staging\n", f"loaded {LOADED}\n"]
    kill(process, database)

    assert not january_is_absent(database)
    assert_load_completes(database, tmp_path)


def test_load_killed_at_a_random_moment_is_complete_or_absent(database: PostgresDatabase, tmp_path: Path) -> None:
    started = time.monotonic()
    start(database, LINES, tmp_path).communicate(timeout=20)
    duration = time.monotonic() - started
    for _ in range(8):
        process = start(database, LINES, tmp_path, "replace" if not january_is_absent(database) else "")
        time.sleep(random.uniform(0.3, 1.1) * duration)
        kill(process, database)
        january_is_absent(database)

    assert_load_completes(database, tmp_path)


def test_killed_luigi_run_leaves_nothing_and_the_next_run_loads_the_month(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, luigi: Run, green: Dataset
) -> None:
    write_month(green, JANUARY, 3000, mirror)
    january = ("--module", "pipeline", "LoadTripdata", "--taxi", "green", "--month", "2019-01")
    with lock_held(database, INSERT_JANUARY_MARKER):
        named = replace(database, dsn=f"{database.dsn}&application_name={database.schema}")
        process = start_command("luigi", *january, **settings(tmp_path, named, mirror))
        wait_until_blocked(database, "INSERT INTO .*load_ledger")
        kill(process, database)
    assert january_is_absent(database)

    assert luigi(*january[2:]).returncode == 0
    assert row_count(database) == 3040
    assert loading_tables(database) == []
