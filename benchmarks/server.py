"""The PostgreSQL server that all loaders use in turn."""

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

_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Server:
    """A running server and a folder for the files of the run; the server's own files are in `folder`/postgres."""

    dsn: str
    folder: Path

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(psycopg2.connect(self.dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall() if cursor.description else []

    def recreate_schema(self, name: str) -> str:
        """Creates an empty schema in the place of any existing one; returns its name."""
        self.execute(f"SET client_min_messages = warning; DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}")
        return name

    def cpu_seconds(self) -> float:
        """Returns the processor time that the server's processes have used, including those that have ended."""
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

    def wait_until_idle(self) -> None:
        """Waits until the server has finished the background work that the previous loader caused."""
        self.execute("CHECKPOINT")
        deadline = time.monotonic() + _LONGEST_WAIT
        vacuuming = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
        while self.execute(vacuuming) and time.monotonic() < deadline:
            time.sleep(0.2)

    def psql(self, *commands: str) -> list[str | Path]:
        """Returns the command line that runs these commands in order, each in its own transaction."""
        line: list[str | Path] = [program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.dsn]
        for command in commands:
            line += ["-c", command]
        return line

    def version(self) -> str:
        return str(self.execute("SHOW server_version")[0][0])


@contextlib.contextmanager
def running_server(cache: Path) -> Iterator[Server]:
    """Yields a new server with default settings; stops it and removes all its files at the end.

    :raises BenchmarkError: when another run uses the same folder.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "run"
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkError(
                f"another benchmark runs in {cache}; two concurrent ones would give meaningless figures"
            ) from None
        _remove(folder)  # of a run that was killed
        try:
            yield Server(ensure_running(folder / "postgres"), folder)
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    stop(folder / "postgres")
    shutil.rmtree(folder, ignore_errors=True)
