"""The one PostgreSQL that all contestants load into, turn by turn."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from benchmarks.process import BenchmarkError
from pipeline.warehouses.postgres.embedded import ensure_running, stop
from pipeline.warehouses.postgres.embedded_programs import program

_LONGEST_SETTLING = 60.0


@dataclass(frozen=True)
class Server:
    """A running server and the folder that is free for the run's files; `folder`/postgres is the server's."""

    dsn: str
    folder: Path

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(psycopg2.connect(self.dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall() if cursor.description else []

    def fresh_schema(self, name: str) -> str:
        """Returns the name once there is an empty schema of that name."""
        self.execute(f"SET client_min_messages = warning; DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")
        return name

    def cpu_seconds(self) -> float:
        """What the server's processes have used so far, those that have ended included."""
        with contextlib.closing(psycopg2.connect(self.dsn)) as connection:
            parent = psutil.Process(connection.info.backend_pid).parent()
        assert parent
        own = parent.cpu_times()
        used = own.user + own.system + own.children_user + own.children_system
        for child in parent.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                used += times.user + times.system
        return float(used)

    def settle(self) -> None:
        """Returns when the server is done with what the contestant before left to do in the background."""
        self.execute("CHECKPOINT")
        deadline = time.monotonic() + _LONGEST_SETTLING
        vacuuming = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
        while self.execute(vacuuming) and time.monotonic() < deadline:
            time.sleep(0.2)

    def psql(self, *commands: str) -> list[str | Path]:
        """The command line that runs these commands in order, each in a transaction of its own."""
        line: list[str | Path] = [program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.dsn]
        for command in commands:
            line += ["-c", command]
        return line

    def version(self) -> str:
        return str(self.execute("SHOW server_version")[0][0])


@contextlib.contextmanager
def running_server(cache: Path) -> Iterator[Server]:
    """Yields a new server with default settings; stops it and removes all of its files in the end.

    :raises BenchmarkError: when another run works in the same folder.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "run"
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkError(f"another benchmark runs in {cache}; figures of two at once mean nothing") from None
        _remove(folder)  # of a run that was killed
        try:
            yield Server(ensure_running(folder / "postgres"), folder)
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    stop(folder / "postgres")
    shutil.rmtree(folder, ignore_errors=True)
