"""Starts and stops the embedded PostgreSQL: a server from a Python wheel that listens on its own Unix socket.

The server starts on first use and keeps running after the command ends. A watchdog stops it some minutes after its
last use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import CHECKOUT
from pipeline.warehouses.postgres.embedded_programs import program
from pipeline.warehouses.postgres.embedded_server import SETTINGS, EmbeddedServer

__all__ = ["SETTINGS", "ensure_running", "environment", "hide_libpq_environment", "program", "stop"]

_environment_lock = threading.Lock()


def ensure_running(folder: Path, idle_minutes: float = 0) -> str:
    """Returns the DSN of the server whose data is in `folder`; starts it if necessary.

    If several processes find it stopped, one starts it and the others wait. If it runs, this takes well below a
    millisecond. The watchdog does not stop the server within `idle_minutes` of this call, even without a session.

    :raises PipelineError: if the server cannot be created or started; the message names its log.
    """
    server = _server(folder)
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
    server = _server(folder)
    if not (server.folder / "postmaster.pid").exists():
        return False
    try:
        with server_lock(server.folder):
            return server.stop()
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"the embedded PostgreSQL in {server.folder} does not stop ({error}); see {server.folder / 'log'}"
        ) from error


def environment() -> dict[str, str]:
    """Returns this process's environment without libpq's variables, which do not apply to the embedded server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@contextlib.contextmanager
def hide_libpq_environment() -> Iterator[None]:
    """Removes libpq's variables from this process's environment for the block; one thread at a time.

    Connection parameters override most of them, but not PGSERVICE.
    """
    with _environment_lock:
        hidden = {name: value for name, value in os.environ.items() if name.startswith("PG")}
        for name in hidden:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(hidden)


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


def _server(folder: Path) -> EmbeddedServer:
    return EmbeddedServer(folder.expanduser().resolve())


def _ensure_watchdog(folder: Path, idle_minutes: float) -> None:
    """Starts the watchdog process unless it runs already, in which case it holds a lock."""
    with folder.with_name(f"{folder.name}.watch.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.warehouses.postgres.embedded_watchdog", str(folder), str(idle_minutes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=CHECKOUT,
            env={**environment(), "PYTHONPATH": str(CHECKOUT)},
            pass_fds=[lock.fileno()],  # the process inherits the lock
        )
