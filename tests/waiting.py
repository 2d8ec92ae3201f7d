"""Holding a load where a test wants it: locks to wait for, and waiting until it does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import psycopg2
from conftest import execute

from pipeline.warehouses.postgres.connection import PostgresDatabase

# January's marker, made of another month's: while it is not committed, January's load waits right before its commit.
MARKER = "INSERT INTO load_ledger SELECT task_family, 'green/2019-01', target_table, source_url, source_bytes,"
MARKER += " source_sha256, 1, 1, 0, 0, spec_version, started_at, finished_at FROM load_ledger"


@contextlib.contextmanager
def held(database: PostgresDatabase, query: str) -> Iterator[None]:
    """Keeps what a statement has locked until the end, and then undoes it."""
    with contextlib.closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", (database.schema,))
        cursor.execute(query)
        yield


def until_it_waits(database: PostgresDatabase, statement: str) -> None:
    """Returns once a load waits for a lock in a statement that begins so."""
    query = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s AND query ~ %s"
    eventually(lambda: execute(database, query, f"^(--[^\\n]*\\n)*{statement}", database.schema) != [])


def eventually(holds: Callable[[], bool]) -> None:
    """Returns once it holds; fails when it does not for a minute, as busy machines take their time."""
    deadline, pause = time.monotonic() + 60, 0.01
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(pause)
        pause = min(2 * pause, 0.1)  # what takes long, need not be asked for so often


def until_its_sessions_end(database: PostgresDatabase, application_name: str) -> None:
    """Returns once the server has noticed that a client is dead, whose last statement it may yet have completed."""
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
    eventually(lambda: execute(database, query, application_name) == [])
