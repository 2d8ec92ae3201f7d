"""Starting the embedded server where it does not run."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import CHECKOUT, lock_held
from pipeline.warehouses.postgres.embedded.server import (
    PORT,
    START_SECONDS,
    library_server,
    lock_file,
    pg_ctl,
    postmaster,
    running_dsn,
    socket_folder,
)

logger = logging.getLogger("luigi-interface")

_WAITS_FOR_ORPHANS = (0.0, 0.3, 1.0, 4.0)  # processes of a killed server hold its memory until they notice
# Bigger and fewer checkpoints: a backfill writes gigabytes, and a crash replays at most this much.
SETTINGS = {"max_wal_size": "4GB", "checkpoint_timeout": "15min", "shared_buffers": "256MB"}


def ensure_running(folder: Path, idle_minutes: float = 0) -> str:
    """Returns the DSN of the server whose data is in `folder`, after starting it if need be.

    Of several processes that find it stopped, one starts it and the others wait.

    :raises PipelineError: when the server cannot be made or started; the message names its log.
    """
    folder = folder.expanduser().resolve()
    _forget_other_servers()
    with contextlib.suppress(OSError):
        lock_file(folder).touch()
    dsn = running_dsn(folder)
    if dsn is None:
        try:
            dsn = _started(folder, idle_minutes)
        except (OSError, RuntimeError, subprocess.SubprocessError, AssertionError) as error:
            raise PipelineError(
                f"the embedded PostgreSQL in {folder} does not start ({error}); see {folder / 'log'} if it is there,"
                f" or change [storage] root, or set [postgres] dsn to use another server"
            ) from error
    return dsn


def _forget_other_servers() -> None:
    """Takes libpq's variables out of this process's environment: they are about servers of the user's own."""
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGSERVER_")]:
        del os.environ[name]


def _started(folder: Path, idle_minutes: float) -> str:
    with lock_held(lock_file(folder)):
        if dsn := running_dsn(folder):
            return dsn
        if not (folder / "PG_VERSION").exists():
            _create(folder)
        dsn = _start(folder)
    if idle_minutes > 0:
        _watch_in_background(folder, idle_minutes)
    return dsn


def _start(folder: Path) -> str:
    server = library_server(folder)
    server.ensure_pgdata_inited()  # it is; this lets the server's own user reach it when this one is root
    sockets = socket_folder(folder, server)
    options = f"-h '' -p {PORT} -k {shlex.quote(str(sockets))}"
    for wait in _WAITS_FOR_ORPHANS:
        time.sleep(wait)
        if postmaster(folder) is None:
            # After a crash and a reboot the number in them may be anybody's, and PostgreSQL would not start.
            for stale in (folder / "postmaster.pid", sockets / f".s.PGSQL.{PORT}.lock"):
                stale.unlink(missing_ok=True)
            pg_ctl(server, "-l", str(folder / "log"), "-o", options, "start")
        if dsn := _when_ready(folder):
            return dsn
    raise RuntimeError("it ends at once")


def _create(folder: Path) -> None:
    """Makes a new data folder elsewhere and moves it in place, so that a killed initdb leaves none behind."""
    logger.info("making a new PostgreSQL in %s", folder)
    if leftover := postmaster(folder):
        # Its folder was removed under it; it would go on to write into the new one.
        leftover.kill()
        while postmaster(folder) is not None:
            time.sleep(0.05)
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    library_server(fresh).ensure_pgdata_inited()
    with (fresh / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
    fresh.rename(folder)


def _when_ready(folder: Path) -> str | None:
    give_up_at = time.monotonic() + START_SECONDS
    while (dsn := running_dsn(folder)) is None:
        if postmaster(folder) is None or time.monotonic() > give_up_at:
            return None
        time.sleep(0.1)
    return dsn


def _watch_in_background(folder: Path, idle_minutes: float) -> None:
    subprocess.Popen(
        [sys.executable, "-m", "pipeline.warehouses.postgres.embedded.idle", str(folder), str(idle_minutes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
