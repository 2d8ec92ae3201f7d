"""The embedded PostgreSQL: a real server from a wheel, on a socket of its own, started when it is first needed.

It outlives the command that started it, so that the next one finds it running, and stops itself some minutes after
its last use.
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
from pipeline.warehouses.postgres.embedded_server import SETTINGS, EmbeddedServer, program

__all__ = ["SETTINGS", "ensure_running", "environment", "environment_hidden_from_libpq", "program", "stop"]

_environment_lock = threading.Lock()


def ensure_running(folder: Path, idle_minutes: float = 0) -> str:
    """Returns the DSN of the server whose data is in `folder`, after starting it if need be.

    Of several processes that find it stopped, one starts it and the others wait. Where it runs, this takes well below
    a millisecond, and the server is then safe from its idle watch for `idle_minutes`, even before a session begins.

    :raises PipelineError: when the server cannot be made or started; the message names its log.
    """
    server = _server(folder)
    try:
        with locked(server.folder, fcntl.LOCK_SH):
            dsn = server.dsn()
        if dsn is None:
            with locked(server.folder):
                if not (server.folder / "PG_VERSION").exists():
                    server.create()
                dsn = server.dsn() or server.start()
    except (OSError, RuntimeError, KeyError, subprocess.SubprocessError) as error:
        raise PipelineError(
            f"the embedded PostgreSQL in {server.folder} does not start ({error}); see {server.folder / 'log'} if it is"
            f" there, or change [storage] root, or set [postgres] dsn to use another server"
        ) from error
    if idle_minutes > 0:
        _ensure_watched(server.folder, idle_minutes)
    return dsn


def stop(folder: Path) -> bool:
    """Stops the server whose data is in `folder`; returns whether it ran. Transactions in progress are rolled back.

    The server of another folder, of which this one may be a copy, is left alone.

    :raises PipelineError: when it runs and does not stop.
    """
    server = _server(folder)
    if not (server.folder / "postmaster.pid").exists():
        return False
    try:
        with locked(server.folder):
            return server.stop()
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"the embedded PostgreSQL in {server.folder} does not stop ({error}); see {server.folder / 'log'}"
        ) from error


def environment() -> dict[str, str]:
    """This process's environment without libpq's variables, which are about servers of the user's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@contextlib.contextmanager
def environment_hidden_from_libpq() -> Iterator[None]:
    """While this holds, libpq's variables are out of the way of this process, one thread at a time.

    Parameters of a connection win over most of them, but not over PGSERVICE.
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
def locked(folder: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds the lock on starting and stopping the server of a folder. Shared, it is for using the server."""
    lock_file = last_use_file(folder)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as lock:  # does not change its time, unlike "w"
        fcntl.flock(lock, operation)
        if operation == fcntl.LOCK_SH:
            with contextlib.suppress(OSError):
                os.utime(lock_file)
        yield


def last_use_file(folder: Path) -> Path:
    """The file of the lock; its time of change is when a command last asked for the server."""
    return folder.with_name(f"{folder.name}.lock")


def _server(folder: Path) -> EmbeddedServer:
    return EmbeddedServer(folder.expanduser().resolve())


def _ensure_watched(folder: Path, idle_minutes: float) -> None:
    """Starts the process that stops the idle server, unless there is one: it holds a lock as long as it lives."""
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
            pass_fds=[lock.fileno()],  # with which it inherits the lock
        )
