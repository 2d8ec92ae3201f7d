"""Stops the embedded server when it is idle; run as a module with the folder and the number of minutes."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import psycopg2

from pipeline.warehouses.postgres.connection import statement
from pipeline.warehouses.postgres.embedded import last_use_file, server_lock
from pipeline.warehouses.postgres.embedded_server import EmbeddedServer

_POLL_SECONDS = 5.0


def watch(folder: Path, idle_minutes: float) -> None:
    """Stops the server after it has had no sessions for `idle_minutes`; also returns if the server is gone."""
    server = EmbeddedServer(folder)
    last_seen = time.time()
    while dsn := server.dsn():
        if _sessions(dsn):
            last_seen = time.time()
        elif _is_idle(folder, last_seen, idle_minutes):
            with server_lock(folder):  # no command starts to use the server meanwhile
                if _is_idle(folder, last_seen, idle_minutes) and not _sessions(dsn):
                    server.stop()
                    return
        time.sleep(min(_POLL_SECONDS, idle_minutes * 60))


def _is_idle(folder: Path, last_seen: float, idle_minutes: float) -> bool:
    return time.time() - max(last_seen, last_use_file(folder).stat().st_mtime) >= idle_minutes * 60


def _sessions(dsn: str) -> int:
    """Returns the number of other sessions, or 1 if the server is too busy to answer."""
    try:
        with contextlib.closing(psycopg2.connect(dsn, connect_timeout=5)) as connection, connection.cursor() as cursor:
            cursor.execute(statement("count_other_sessions"))
            row = cursor.fetchone()
            return int(row[0]) if row else 0
    except psycopg2.Error:
        return 1


if __name__ == "__main__":
    watch(Path(sys.argv[1]), float(sys.argv[2]))
