"""Stopping a load at a known point: locks that it has to wait for, and functions that wait for a condition."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import psycopg2
from conftest import execute

from pipeline.warehouses.postgres.connection import PostgresDatabase

# Writes January's marker as a copy of another month's. In an open transaction, it lets January's load wait right
# before its commit.
INSERT_JANUARY_MARKER = (
    "INSERT INTO load_ledger SELECT task_family, 'green/2019-01', target_table, source_url, source_bytes,"
)
INSERT_JANUARY_MARKER += " source_sha256, 1, 1, 0, 0, spec_version, started_at, finished_at FROM load_ledger"


@contextlib.contextmanager
def lock_held(database: PostgresDatabase, query: str) -> Iterator[None]:
    """Executes a statement, holds its locks until the block ends, and rolls it back."""
    with contextlib.closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", (database.schema,))
        cursor.execute(query)
        yield


def wait_until_blocked(database: PostgresDatabase, statement: str) -> None:
    """Returns when a load waits for a lock in a statement that begins with `statement`."""
    query = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s AND query ~ %s"
    eventually(lambda: execute(database, query, f"^(--[^\\n]*\\n)*{statement}", database.schema) != [])


def eventually(holds: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails if it does not within a minute, which is enough on busy machines."""
    deadline, pause = time.monotonic() + 60, 0.01
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(pause)
        pause = min(2 * pause, 0.1)  # a long wait needs fewer checks


def wait_for_sessions_to_end(database: PostgresDatabase, application_name: str) -> None:
    """Returns when the server has ended a killed client's sessions; until then, its last statement may complete."""
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
    eventually(lambda: execute(database, query, application_name) == [])
