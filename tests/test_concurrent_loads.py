"""Concurrent loads: of different months, of the same month, and into a schema without tables."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
from conftest import JANUARY, execute
from loading_process import start
from trips import FEBRUARY, loading_tables, partitions, row_count, trip, trips, write_load_job
from waiting import INSERT_JANUARY_MARKER, eventually, lock_held, wait_until_blocked

from pipeline.datasets import Release, dataset_named
from pipeline.progress import silent
from pipeline.releases import csv_file
from pipeline.warehouses import LoadJob
from pipeline.warehouses.postgres.connection import ConnectionLost, PostgresDatabase
from pipeline.warehouses.postgres.loading import load
from pipeline.warehouses.postgres.setup import ensure_tables
from pipeline.warehouses.postgres.tables import Tables

MONTHS = [datetime.date(2019, number, 1) for number in range(1, 7)]


def load_together(database: PostgresDatabase, jobs: list[LoadJob]) -> list[int]:
    """Runs the loads at the same time; returns the number of rows that each of them loaded."""
    ready = threading.Barrier(len(jobs))

    def run(job: LoadJob) -> int:
        ready.wait()
        return load(database, job, silent).rows_loaded

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_different_months_can_be_loaded_concurrently(database: PostgresDatabase, tmp_path: Path) -> None:
    jobs = [write_load_job([*trips(200, month), b"bad"], tmp_path, month, max_bad_rows=1) for month in MONTHS]

    assert load_together(database, jobs) == [200] * 6

    assert row_count(database) == 1200
    assert (
        len(partitions(database)) == row_count(database, "load_ledger") == row_count(database, "load_quarantine") == 6
    )
    assert loading_tables(database) == []


def test_row_in_several_concurrently_loaded_months_is_loaded_once(database: PostgresDatabase, tmp_path: Path) -> None:
    jobs = [write_load_job([*trips(50, month), trip(7, FEBRUARY)], tmp_path, month) for month in MONTHS]

    loaded = load_together(database, jobs)

    assert sum(loaded) == row_count(database) == 300
    assert execute(database, "SELECT count(DISTINCT unique_row_id) FROM green_tripdata") == [(300,)]
    assert row_count(database, "load_quarantine") == 6


def test_month_loaded_by_concurrent_threads_is_loaded_once(database: PostgresDatabase, tmp_path: Path) -> None:
    job = write_load_job([*trips(200), trip(0)], tmp_path)

    assert load_together(database, [job] * 4) == [200] * 4

    assert row_count(database) == 200
    assert row_count(database, "load_ledger") == row_count(database, "load_quarantine") == 1


def test_month_loaded_by_concurrent_processes_into_an_empty_schema_is_loaded_once(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    processes = [start(database, trips(200), tmp_path, "hold") for _ in range(3)]
    with ThreadPoolExecutor(len(processes)) as pool:
        outputs = [output for output, _ in pool.map(lambda process: process.communicate("go on\n", 30), processes)]

    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert all(output.endswith("loaded 200\n") for output in outputs)
    assert sum(output.startswith("staging\n") for output in outputs) == 1
    assert row_count(database) == 200
    assert loading_tables(database) == []


def test_month_can_be_replaced_while_others_are_loaded(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job(trips(200), tmp_path, JANUARY), silent)
    jobs = [write_load_job(trips(100), tmp_path, JANUARY, replace=True)]
    jobs += [write_load_job(trips(100, month), tmp_path, month) for month in MONTHS[1:]]

    assert load_together(database, jobs) == [100] * 6
    assert row_count(database) == 600


def test_load_waits_for_another_month_that_is_about_to_commit(database: PostgresDatabase, tmp_path: Path) -> None:
    """Otherwise neither load would see the rows of the other."""
    january, february = (write_load_job([*trips(9, month), trip(7, FEBRUARY)], tmp_path, month) for month in MONTHS[:2])
    load(database, write_load_job(trips(9, MONTHS[2]), tmp_path, MONTHS[2]), silent)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s"

    with ThreadPoolExecutor(2) as pool, lock_held(database, INSERT_JANUARY_MARKER):
        first = pool.submit(load, database, january, silent)
        eventually(lambda: execute(database, waiting, database.schema) == [(1,)])
        second = pool.submit(load, database, february, silent)
        eventually(lambda: execute(database, waiting, database.schema) == [(2,)])

    assert (first.result().rows_duplicate, second.result().rows_duplicate) == (0, 2)
    assert execute(database, "SELECT count(DISTINCT unique_row_id), count(*) FROM green_tripdata") == [(27, 27)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_load_sees_a_month_that_was_loaded_while_it_waited(
    database: PostgresDatabase, tmp_path: Path, level: str
) -> None:
    """Whatever isolation the role's transactions have by default."""
    option = quote(f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}")
    with_option = replace(database, dsn=f"{database.dsn}&options={option}")
    january = write_load_job([*trips(9), trip(7, FEBRUARY)], tmp_path)
    load(database, write_load_job(trips(7, FEBRUARY), tmp_path, FEBRUARY), silent)
    february = write_load_job([*trips(7, FEBRUARY), trip(7, FEBRUARY)], tmp_path, FEBRUARY, replace=True)

    with ThreadPoolExecutor(1) as pool:
        with lock_held(database, "SELECT FROM load_ledger WHERE partition_key = 'green/2019-02' FOR UPDATE"):
            replaced = pool.submit(load, with_option, february, silent)
            wait_until_blocked(database, "DELETE FROM")
            load(with_option, january, silent)
        assert replaced.result().rows_duplicate == 1

    assert execute(database, "SELECT count(DISTINCT unique_row_id), count(*) FROM green_tripdata") == [(17, 17)]


def test_tables_of_another_dataset_are_created_while_a_month_is_published(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    load(database, write_load_job(trips(10), tmp_path), silent)
    publishing = "WITH quarantined AS (DELETE FROM load_quarantine) DELETE FROM load_ledger"
    with lock_held(database, publishing), contextlib.closing(database.connect()) as connection:
        replace(database, lock_timeout=1).set_up(connection)
        ensure_tables(connection, Tables(database.schema, dataset_named("yellow")))
    assert row_count(database, "yellow_tripdata") == 0


def test_column_is_added_while_a_month_is_published(database: PostgresDatabase, tmp_path: Path) -> None:
    """By a run with a newer spec, while one with the older spec loads."""
    green = dataset_named("green")
    older = replace(green, columns=tuple(column for column in green.columns if column.name != "request_source"))
    january, february = (write_load_job(trips(9, month), tmp_path, month) for month in MONTHS[:2])
    load(database, replace(january, release=Release(older, MONTHS[0])), silent)
    newer = replace(february, release=Release(older, MONTHS[1]))

    def set_up() -> None:
        with contextlib.closing(database.connect()) as connection:
            ensure_tables(connection, Tables(database.schema, green))

    with ThreadPoolExecutor(2) as pool:
        with lock_held(database, "LOCK green_tripdata_2019_01"):
            published = pool.submit(load, database, newer, silent)
            wait_until_blocked(database, "WITH outside")
            added = pool.submit(set_up)
            wait_until_blocked(database, "(ALTER TABLE|CREATE OR REPLACE TRIGGER)")
        assert published.result().rows_loaded == 9
        added.result()

    assert execute(database, "SELECT count(*), count(request_source) FROM green_tripdata") == [(18, 0)]


def test_month_is_replaced_while_a_row_is_inserted_by_hand(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job(trips(9), tmp_path), silent)
    february = write_load_job(trips(9, FEBRUARY), tmp_path, FEBRUARY)
    load(database, february, silent)

    with ThreadPoolExecutor(1) as pool, contextlib.closing(psycopg2.connect(database.dsn)) as by_hand:
        cursor = by_hand.cursor()
        cursor.execute("SELECT set_config('search_path', %s, false)", (database.schema,))
        cursor.execute("LOCK green_tripdata IN ROW EXCLUSIVE MODE")  # as INSERT does, before its trigger is called
        replaced = pool.submit(load, database, write_load_job(trips(8), tmp_path, replace=True), silent)
        wait_until_blocked(database, "(LOCK|ALTER) TABLE")
        cursor.execute("INSERT INTO green_tripdata VALUES ('by hand', 'green_tripdata_2019-02.csv')")
        by_hand.commit()
        assert replaced.result().rows_loaded == 8

    assert row_count(database) == 18


def test_load_that_lost_its_session_copies_no_rows_into_the_next(
    database: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session that controls a load blocks others, so that a log tells users to end it."""
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 2_000)
    job = write_load_job(trips(400), tmp_path)
    copying, go_on = (threading.Event(), threading.Event()), (threading.Event(), threading.Event())

    def hold(number: int) -> Callable[[int, int | None], None]:
        def wait(done: int, total: int | None) -> None:
            copying[number].set()
            assert go_on[number].wait(60)

        return wait

    waits = "SELECT 1 FROM pg_stat_activity WHERE query ~ 'advisory_xact' AND query ~ %s AND wait_event_type = 'Lock'"
    end = f"""
        SELECT pg_terminate_backend(pid) FROM pg_locks
        WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND pid IN (
            SELECT pid FROM pg_stat_activity WHERE application_name = '{database.schema}'
        )
    """
    with ThreadPoolExecutor(2) as pool:
        named = replace(database, dsn=f"{database.dsn}&application_name={database.schema}")
        first = pool.submit(load, named, job, hold(0))
        assert copying[0].wait(60)
        assert execute(database, end) == [(True,)]
        second = pool.submit(load, database, job, hold(1))
        eventually(lambda: copying[1].is_set() or execute(database, waits, database.schema) != [])
        go_on[0].set()
        with pytest.raises(ConnectionLost):
            first.result()
        go_on[1].set()
        entry = second.result()

    assert (entry.rows_loaded, entry.rows_duplicate, row_count(database)) == (400, 0, 400)
    assert row_count(database, "load_quarantine") == 0
