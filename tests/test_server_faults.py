"""Faults of the database server: they are reported in one line, nothing changes, and later loads succeed."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import loading_process
import psutil
import psycopg2
import pytest
from conftest import JANUARY, Run, execute, settings, start_command
from trips import FEBRUARY, loading_tables, row_count, schema_contents, trip, trips, write_load_job
from waiting import INSERT_JANUARY_MARKER, eventually, lock_held, wait_for_sessions_to_end, wait_until_blocked

from pipeline.datasets import Dataset, Release
from pipeline.errors import PipelineError
from pipeline.progress import Progress, silent
from pipeline.releases import csv_file
from pipeline.warehouses.postgres import copy_streams, watch
from pipeline.warehouses.postgres.connection import ConnectionLost, LockTimeout, PostgresDatabase
from pipeline.warehouses.postgres.embedded import ensure_running, stop
from pipeline.warehouses.postgres.loading import forget, load

MARCH = datetime.date(2019, 3, 1)
LINES = [*trips(3000), trip(9)]


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 20_000)


def once(act: Callable[[], object]) -> Progress:
    """Returns a progress callback that calls `act` once, in the middle of a load."""
    done: list[int] = []

    def progress(rows: int, total: int | None) -> None:
        if not done:
            done.append(rows)
            act()

    return progress


def only_february_is_loaded(database: PostgresDatabase) -> bool:
    """Returns whether February with its 40 rows is all that is loaded."""
    return (row_count(database), row_count(database, "load_ledger"), row_count(database, "load_quarantine")) == (
        40,
        1,
        0,
    )


def assert_load_completes(database: PostgresDatabase, folder: Path) -> None:
    entry = load(database, write_load_job(LINES, folder), silent)
    assert (entry.rows_loaded, entry.rows_duplicate, row_count(database)) == (3000, 1, 3040)
    assert loading_tables(database) == []


@pytest.mark.parametrize("victims", ["query ~ 'FROM STDIN'", "true"], ids=["one stream", "every connection"])
def test_lost_connection_changes_nothing_and_the_load_can_be_repeated(
    database: PostgresDatabase, tmp_path: Path, victims: str
) -> None:
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    named = PostgresDatabase(f"{database.dsn}&application_name={database.schema}", database.schema)
    query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND {victims}"

    with pytest.raises(ConnectionLost, match="green/2019-01 was not loaded and nothing has changed") as failure:
        load(named, write_load_job(LINES, tmp_path), once(lambda: execute(database, query, database.schema)))

    assert len(str(failure.value).splitlines()) == 1
    assert only_february_is_loaded(database)
    assert_load_completes(database, tmp_path)


def test_server_without_free_locks_is_reported_with_the_setting_to_raise(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    with contextlib.closing(psycopg2.connect(database.dsn)) as other, other.cursor() as cursor:

        def take_all_locks() -> None:
            with pytest.raises(psycopg2.errors.OutOfMemory):  # the session keeps those that it has until then
                cursor.execute("SELECT pg_advisory_lock(number) FROM generate_series(1, 1000000) AS number")

        with pytest.raises(PipelineError, match=r"nothing has changed: .*out of shared memory \(.*max_locks"):
            load(database, write_load_job(LINES, tmp_path), once(take_all_locks))
        other.rollback()
        cursor.execute("SELECT pg_advisory_unlock_all()")

    assert only_february_is_loaded(database)
    assert_load_completes(database, tmp_path)


def test_connection_lost_in_the_middle_of_a_block_is_reported_as_lost(
    database: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this case psycopg2 itself prints a SystemError and raises "invalid socket"."""
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 1 << 20)
    named = PostgresDatabase(f"{database.dsn}&application_name={database.schema}", database.schema)
    copying = "FROM pg_stat_activity WHERE application_name = %s AND query ~ 'FROM STDIN' AND state = 'active'"
    end_once = once(lambda: execute(database, f"SELECT pg_terminate_backend(pid, 20000) {copying}", database.schema))

    class InterruptedBlock(io.BytesIO):
        """Of which the server's process has received the first part only when it ends."""

        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                end_once(0, None)
            return super().read(size)

    monkeypatch.setattr(copy_streams, "io", SimpleNamespace(BytesIO=InterruptedBlock))
    with pytest.raises(ConnectionLost, match=r"connection broke \((terminating|server closed)"):
        load(named, write_load_job(trips(20_000), tmp_path), silent)

    assert "SystemError" not in capfd.readouterr().err


def test_timeouts_of_the_role_do_not_apply(database: PostgresDatabase, tmp_path: Path) -> None:
    timeouts = ("statement", "transaction", "idle_in_transaction_session", "idle_session")
    options = quote(" ".join(f"-c {name}_timeout=800ms" for name in timeouts))
    hasty = replace(database, dsn=f"{database.dsn}&options={options}")

    assert load(hasty, write_load_job(LINES, tmp_path), once(lambda: time.sleep(1.2))).rows_loaded == 3000


def test_load_is_not_retried_after_a_cancelled_statement(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s"

    with ThreadPoolExecutor(1) as pool, lock_held(database, INSERT_JANUARY_MARKER):
        loading = pool.submit(load, database, write_load_job(LINES, tmp_path), silent)
        wait_until_blocked(database, "INSERT INTO .*load_ledger")
        execute(database, cancel, database.schema)
        with pytest.raises(PipelineError, match="nothing has changed: PostgreSQL says: canceling statement") as failure:
            loading.result()

    assert not isinstance(failure.value, ConnectionLost)
    assert only_february_is_loaded(database)


def test_load_ended_by_a_deadlock_can_be_retried(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)

    with (
        ThreadPoolExecutor(1) as pool,
        contextlib.closing(psycopg2.connect(database.dsn)) as connection,
        connection.cursor() as other,
    ):
        other.execute("SELECT set_config('search_path', %s, false)", (database.schema,))
        other.execute("SET deadlock_timeout = '1min'")  # so that the load detects the deadlock and is cancelled
        other.execute(INSERT_JANUARY_MARKER)
        loading = pool.submit(load, database, write_load_job(LINES, tmp_path), silent)
        wait_until_blocked(database, "INSERT INTO .*load_ledger")
        other.execute("LOCK TABLE green_tripdata")
        with pytest.raises(ConnectionLost, match="deadlock"):
            loading.result()

    assert only_february_is_loaded(database)
    assert_load_completes(database, tmp_path)


def test_luigi_retries_a_load_after_a_lost_connection(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, luigi: Run
) -> None:
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    january = ("--module", "pipeline", "LoadTripdata", "--taxi", "green", "--month", "2019-01")
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s"
    with lock_held(database, INSERT_JANUARY_MARKER):
        process = start_command("luigi", *january, **settings(tmp_path, database, mirror))
        wait_until_blocked(database, "INSERT INTO .*load_ledger")
        execute(database, query, database.schema)
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 0, output
    assert "trying again in 1 s" in output
    assert row_count(database) == 540


def test_server_crash_during_a_load_or_a_ledger_query_is_reported_and_loses_nothing(
    tmp_path: Path, mirror: Path
) -> None:
    folder = Path(tempfile.mkdtemp()) / "postgres"
    database = PostgresDatabase(ensure_running(folder), "taxi")

    def crash() -> None:
        postmaster = int((folder / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGQUIT)  # an immediate shutdown, which has the same effect as a crash
        eventually(lambda: not (folder / "postmaster.pid").exists())

    try:
        load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
        with pytest.raises(ConnectionLost):
            load(database, write_load_job(LINES, tmp_path), once(crash))
        with pytest.raises(ConnectionLost, match="no connection to PostgreSQL"):
            load(database, write_load_job(LINES, tmp_path), silent)

        assert ensure_running(folder) == database.dsn
        assert only_february_is_loaded(database)
        assert_load_completes(database, tmp_path)

        before = execute(database, "SELECT pg_current_wal_insert_lsn()")[0][0]
        load(database, write_load_job(trips(60_000, MARCH), tmp_path, MARCH), silent)
        written = "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn, pg_table_size('green_tripdata_2019_03')"
        [(logged, stored)] = execute(database, written, before)
        assert logged < stored, "the index must not be logged; it is written to disk before the marker"

        with_password = replace(database, dsn=database.dsn.replace("postgres@", "postgres:s3cret@"))
        january = ("--module", "pipeline", "LoadTripdata", "--taxi", "green", "--month", "2019-01")
        with lock_held(database, "LOCK TABLE load_ledger"):
            asking = start_command("luigi", *january, **settings(tmp_path, with_password, mirror))
            wait_until_blocked(database, "SELECT .*load_ledger")
            crash()
        output, _ = asking.communicate(timeout=30)
        assert asking.returncode == 35, output
        assert re.search(r"cannot schedule LoadTripdata.*: the ledger cannot be read: the database connection", output)
        assert "Traceback" not in output and "s3cret" not in output

        assert ensure_running(folder) == database.dsn
        by_index = "SET enable_seqscan = off; SELECT count(*) FROM green_tripdata WHERE unique_row_id > ''"
        assert execute(database, by_index) == [(63_040,)]
    finally:
        stop(folder)
        shutil.rmtree(folder.parent)


@pytest.fixture
def small_disk(server: str) -> Iterator[Path]:
    """Mounts a file system of one megabyte that contains a tablespace called `small`."""
    folder = Path(tempfile.mkdtemp())
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", folder], check=False)
    if mount.returncode != 0:
        pytest.skip("only root can mount the small file system that this test fills")
    try:
        with contextlib.closing(psycopg2.connect(server)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            owner = psutil.Process(connection.info.backend_pid)
            tablespace = folder / "tablespace"
            tablespace.mkdir(mode=0o700)
            os.chown(tablespace, owner.uids().effective, owner.gids().effective)
            cursor.execute("CREATE TABLESPACE small LOCATION %s", (str(tablespace),))
            yield folder
            cursor.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def test_full_disk_is_reported_and_changes_nothing(
    database: PostgresDatabase, tmp_path: Path, small_disk: Path
) -> None:
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    small = PostgresDatabase(f"{database.dsn}&options={quote('-c default_tablespace=small')}", database.schema)
    lines = [*trips(9000), trip(9)]

    with pytest.raises(
        PipelineError, match=r"green/2019-01 was not loaded and .* disk is full .*; free some space"
    ) as failure:
        load(small, write_load_job(lines, tmp_path), silent)

    assert not isinstance(failure.value, ConnectionLost)
    assert len(str(failure.value).splitlines()) == 1
    assert only_february_is_loaded(database)
    assert loading_tables(database) == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert load(small, write_load_job(lines, tmp_path), silent).rows_loaded == 9000
    forget(database, write_load_job(lines, tmp_path).release)


@pytest.mark.parametrize("kind", ["TABLE green_tripdata (mine text)", "VIEW green_tripdata AS SELECT 1 AS mine"])
def test_table_of_another_program_is_refused_and_left_unchanged(
    database: PostgresDatabase, tmp_path: Path, kind: str
) -> None:
    execute(database, f"CREATE SCHEMA {database.schema}")
    execute(database, f"CREATE {kind}")

    with pytest.raises(PipelineError, match=rf"{database.schema}\.green_tripdata exists already and is not the one"):
        load(database, write_load_job(LINES, tmp_path), silent)

    relations = "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    assert execute(database, relations) == [("green_tripdata",)]


def test_column_that_a_user_has_added_is_named(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job(trips(3), tmp_path), silent)
    execute(database, "ALTER TABLE green_tripdata ADD COLUMN note text")

    with pytest.raises(
        PipelineError, match=r"green_tripdata has columns that .*green\.yaml does not declare: note; keep"
    ):
        load(database, write_load_job(trips(3), tmp_path, FEBRUARY), silent)


def test_ledger_table_of_another_program_is_reported(database: PostgresDatabase, tmp_path: Path) -> None:
    execute(database, f"CREATE SCHEMA {database.schema}")
    execute(database, "CREATE TABLE load_ledger (mine text)")

    with pytest.raises(PipelineError, match=r"load_ledger.*choose another \[postgres\] schema"):
        load(database, write_load_job(LINES, tmp_path), silent)


@pytest.fixture
def plain_role(database: PostgresDatabase) -> Iterator[PostgresDatabase]:
    """The database with the DSN of a role that may only log in; the role has the same name as the schema."""
    role = database.schema
    execute(database, f"CREATE ROLE {role} LOGIN; CREATE SCHEMA {role}")
    yield replace(database, dsn=database.dsn.replace("postgres@", f"{role}@"))
    execute(database, f"DROP SCHEMA {role} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")


def test_missing_rights_on_the_schema_are_reported(
    database: PostgresDatabase, plain_role: PostgresDatabase, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=r"permission denied for schema .*; grant it, or choose another"):
        load(plain_role, write_load_job(LINES, tmp_path), silent)
    execute(database, f"GRANT USAGE ON SCHEMA {database.schema} TO {database.schema}")
    with pytest.raises(PipelineError, match=r"permission denied for schema .*; grant it, or choose another"):
        load(plain_role, write_load_job(LINES, tmp_path), silent)

    assert execute(database, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") == [(0,)]


def test_read_only_database_is_reported_with_the_remedy(database: PostgresDatabase, tmp_path: Path) -> None:
    option = quote("-c default_transaction_read_only=on")
    read_only = replace(database, dsn=f"{database.dsn}&options={option}")

    with pytest.raises(PipelineError, match=r"in a read-only transaction; connect to the primary server if .* standby"):
        load(read_only, write_load_job(LINES, tmp_path), silent)


def test_role_that_owns_its_schema_can_load_replace_and_forget(
    database: PostgresDatabase, plain_role: PostgresDatabase, green: Dataset, tmp_path: Path
) -> None:
    execute(database, f"ALTER SCHEMA {database.schema} OWNER TO {database.schema}")
    load(plain_role, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    before = schema_contents(database)

    entry = load(plain_role, write_load_job([*LINES, b"bad", trip(3, FEBRUARY)], tmp_path, max_bad_rows=1), silent)
    assert (entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (3000, 2, 1)
    assert load(plain_role, write_load_job(trips(5), tmp_path, replace=True), silent).rows_loaded == 5
    assert forget(plain_role, write_load_job([], tmp_path).release)
    assert schema_contents(database) == before


def one_stream(database: PostgresDatabase) -> list[psutil.Process]:
    """Returns a list with one of the server's processes that copy rows."""
    copying = "SELECT pid FROM pg_stat_activity WHERE query ~ 'FROM STDIN' AND pid <> pg_backend_pid() LIMIT 1"
    return [psutil.Process(pid) for (pid,) in execute(database, copying)]


@pytest.mark.parametrize("frozen_part", ["server", "one process"])
def test_load_gives_up_if_the_server_stops_responding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, frozen_part: str
) -> None:
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.3)
    folder = Path(tempfile.mkdtemp()) / "postgres"
    database = PostgresDatabase(ensure_running(folder), "taxi", answer_timeout=1.5)
    frozen: list[psutil.Process] = []

    def freeze() -> None:
        postmaster = psutil.Process(int((folder / "postmaster.pid").read_text().splitlines()[0]))
        frozen.extend([postmaster, *postmaster.children()] if frozen_part == "server" else one_stream(database))
        for process in frozen:
            process.suspend()

    try:
        load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
        with pytest.raises(ConnectionLost, match=r"nothing has changed: the server has not answered for 1\.5 s"):
            load(database, write_load_job(LINES, tmp_path), once(freeze))
        if frozen_part == "one process":
            assert f"green/2019-01: has been waiting for the server's process {frozen[0].pid} for" in caplog.text
        for process in frozen:
            process.resume()
        eventually(lambda: only_february_is_loaded(database))
        assert_load_completes(database, tmp_path)
    finally:
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        stop(folder)
        shutil.rmtree(folder.parent)


@pytest.mark.parametrize("number", [1, 2], ids=["control", "stream"])
def test_load_gives_up_if_the_server_does_not_answer_the_first_statement_of_a_session(
    database: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As behind a pooler that accepts connections while its server is paused."""
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.3)
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    connect, backends = psycopg2.connect, list[psutil.Process]()

    def connect_and_freeze(*given: Any, async_: bool = False, **options: Any) -> Any:
        connection = connect(*given, async_=async_, **options)
        if not async_:
            backends.append(psutil.Process(connection.info.backend_pid))
            if len(backends) == number:
                backends[-1].suspend()  # it has no lock, as it waits for the first statement
        return connection

    monkeypatch.setattr(psycopg2, "connect", connect_and_freeze)
    try:
        with pytest.raises(ConnectionLost, match=r"nothing has changed: the server has not answered for 1\.5 s"):
            load(replace(database, answer_timeout=1.5), write_load_job(LINES, tmp_path), silent)
    finally:
        backends[number - 1].resume()
    assert only_february_is_loaded(database)


@pytest.mark.parametrize("work", ["load", "forget"])
def test_waiting_for_a_lock_is_logged_and_limited(
    database: PostgresDatabase,
    tmp_path: Path,
    work: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An idle transaction that has read the table blocks --force and forget."""
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.2)
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    impatient = replace(database, lock_timeout=2)

    with (
        lock_held(database, "SELECT count(*) FROM green_tripdata"),
        pytest.raises(LockTimeout, match="nothing has changed"),
    ):
        if work == "load":
            load(impatient, write_load_job(trips(41, FEBRUARY), tmp_path, FEBRUARY, replace=True), silent)
        else:
            forget(impatient, write_load_job([], tmp_path, FEBRUARY).release)

    expected = (
        r"green/2019-02: has been waiting for the table .*green_tripdata.* for \d s; it is blocked by pid \d+ \(.*idle"
    )
    assert re.search(expected, caplog.text)
    assert only_february_is_loaded(database)


def test_load_reports_a_vanished_session_that_holds_its_lock(
    database: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To the server, a client whose machine has disappeared looks like one whose process is stopped."""
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.2)
    load(database, write_load_job(trips(40, FEBRUARY), tmp_path, FEBRUARY), silent)
    with loading_process.start(database, LINES, tmp_path, "hold") as vanished:
        try:
            assert vanished.stdout and vanished.stdout.readline() == "staging\n"
            vanished.send_signal(signal.SIGSTOP)
            with pytest.raises(LockTimeout, match="nothing has changed: another session held a lock"):
                load(replace(database, lock_timeout=1.5), write_load_job(LINES, tmp_path), silent)
        finally:
            vanished.kill()

    expected = (
        r"green/2019-01: has been waiting for another run of the same work for \d s; it is blocked by pid \d+"
        rf" \({database.schema}, user postgres, idle since [-0-9]+ [:0-9]+\)"
    )
    assert re.search(expected, caplog.text), caplog.text
    wait_for_sessions_to_end(database, database.schema)
    assert only_february_is_loaded(database)
    assert_load_completes(database, tmp_path)


def test_schema_name_may_have_any_characters(database: PostgresDatabase, green: Dataset, tmp_path: Path) -> None:
    odd = replace(database, schema=f"{database.schema} 100% %s {{x}} ' \"")

    assert load(odd, write_load_job([*trips(9), trip(3)], tmp_path), silent).rows_loaded == 9
    assert load(odd, write_load_job(trips(8), tmp_path, replace=True), silent).rows_loaded == 8
    assert forget(odd, Release(green, JANUARY))

    quoted = odd.schema.replace('"', '""')
    execute(database, f'DROP SCHEMA "{quoted}" CASCADE')


def test_schema_name_that_postgresql_would_truncate_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"has 64 bytes.*choose a shorter one"):
        PostgresDatabase("", "s" * 64)
