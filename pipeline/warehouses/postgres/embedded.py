"""Starts and stops the embedded PostgreSQL: a server from a Python wheel that listens on its own Unix socket.

The server starts on first use and keeps running after the command ends. A watchdog stops it some minutes after its
last use: this module, run with the folder and the number of minutes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from pipeline.errors import PipelineError
from pipeline.files import CHECKOUT
from pipeline.warehouses.postgres.connection import environment_without_libpq, value_of
from pipeline.warehouses.postgres.embedded_server import EmbeddedServer

_POLL_SECONDS = 5.0


def ensure_running(folder: Path, idle_minutes: float = 0) -> str:
    """Returns the DSN of the server whose data is in `folder`; starts it if necessary.

    If several processes find it stopped, one starts it and the others wait. If it runs, this takes well below a
    millisecond. The watchdog does not stop the server within `idle_minutes` of this call, even without a session.

    :raises PipelineError: if the server cannot be created or started; the message names its log.
    """
    server = EmbeddedServer(folder)
    try:
        with server_lock(server.folder, fcntl.LOCK_SH):
            dsn = server.dsn()
        if dsn is None:
            with server_lock(server.folder):
                if not (server.folder / "PG_VERSION").exists():
                    server.create()
                dsn = server.dsn() or server.start()
    except (OSError, RuntimeError, KeyError, subprocess.SubprocessError) as error:
        raise PipelineError(
            f"the embedded PostgreSQL in {server.folder} does not start ({error}); see {server.folder / 'log'} if it"
            f" exists, or change [storage] root, or set [postgres] dsn to use another server"
        ) from error
    if idle_minutes > 0:
        _ensure_watchdog(server.folder, idle_minutes)
    return dsn


def stop(folder: Path) -> bool:
    """Stops the server whose data is in `folder`; returns whether it ran. Transactions in progress are rolled back.

    If the folder is a copy of another, the other's server keeps running.

    :raises PipelineError: if it runs and does not stop.
    """
    server = EmbeddedServer(folder)
    if not (server.folder / "postmaster.pid").exists():
        return False
    try:
        with server_lock(server.folder):
            return server.stop()
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"the embedded PostgreSQL in {server.folder} does not stop ({error}); see {server.folder / 'log'}"
        ) from error


@contextlib.contextmanager
def server_lock(folder: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds the lock on a folder's server: exclusive to start or stop it, shared to use it."""
    lock_file = last_use_file(folder)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as lock:  # unlike "w", does not change the modification time
        fcntl.flock(lock, operation)
        if operation == fcntl.LOCK_SH:
            with contextlib.suppress(OSError):
                os.utime(lock_file)
        yield


def last_use_file(folder: Path) -> Path:
    """Returns the path of the lock file; its modification time is when a command last used the server."""
    return folder.with_name(f"{folder.name}.lock")


def _ensure_watchdog(folder: Path, idle_minutes: float) -> None:
    """Starts the watchdog process unless it runs already, in which case it holds a lock."""
    with folder.with_name(f"{folder.name}.watch.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.warehouses.postgres.embedded", str(folder), str(idle_minutes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=CHECKOUT,
            env={**environment_without_libpq(), "PYTHONPATH": str(CHECKOUT)},
            pass_fds=[lock.fileno()],  # the process inherits the lock
        )


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
            return int(value_of(cursor, "count_other_sessions"))
    except psycopg2.Error:
        return 1


if __name__ == "__main__":
    watch(Path(sys.argv[1]), float(sys.argv[2]))
