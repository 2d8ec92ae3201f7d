"""The process that stops the embedded server when it is idle; run as a module, with its folder and the minutes."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import psycopg2

from pipeline.warehouses.postgres.embedded import lock_file, running_dsn, stop

_POLL_SECONDS = 5.0


def watch(folder: Path, idle_minutes: float) -> None:
    """Returns after stopping the server once it has had no sessions for so many minutes, or when it is gone."""
    last_seen = time.time()
    while dsn := running_dsn(folder):
        if _sessions(dsn):
            last_seen = time.time()
        elif time.time() - max(last_seen, lock_file(folder).stat().st_mtime) >= idle_minutes * 60:
            stop(folder)
            return
        time.sleep(min(_POLL_SECONDS, idle_minutes * 60))


def _sessions(dsn: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        return int(row[0]) if row else 0


if __name__ == "__main__":
    watch(Path(sys.argv[1]), float(sys.argv[2]))
