"""Creates the data folder of an embedded PostgreSQL server, and starts, finds and stops the server."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import shlex
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.warehouses.postgres.embedded_programs import ServerUser, data_argument, run_program, server_user

logger = logging.getLogger("luigi-interface")

PORT = 5432  # part of the socket's name
_SOCKET = f".s.PGSQL.{PORT}"
# More WAL than max_wal_size only fills the disk and slows crash recovery. The server has no replicas, so with
# wal_level = minimal new indexes and marts are synced to disk at commit instead of being written to the WAL as well.
SETTINGS = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "shared_buffers": "256MB",
    # A build of all models from nothing takes some ten locks for each month, and more if many months are replaced.
    "max_locks_per_transaction": "256",
}
_START_SECONDS = 600  # after a crash, the server first replays its WAL
_LOG_AFTER_SECONDS = 3.0
# Text is sorted by its bytes, on every machine and independent of LANG.
_LOCALE = ("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
# Seconds. Orphaned processes of a killed server hold its shared memory for a while.
_ORPHAN_WAITS = (0.0, 0.3, 1.0, 4.0)
_MAX_SOCKET_PATH = 103  # bytes, the limit on macOS; 107 on Linux


class EmbeddedServer:
    """The server whose data is in `folder`. Callers of `start` and `stop` hold the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()

    def dsn(self) -> str | None:
        """Returns a DSN, or None if the server does not accept connections. Does not open a session."""
        try:
            sockets = self._socket_folder()
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(sockets / _SOCKET))
        except OSError:
            return None
        dsn = f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}&port={PORT}"
        return dsn if self._is_ready() else None

    def create(self) -> None:
        """Creates a data folder under a temporary name and renames it, so that a killed initdb leaves no data folder.

        :raises RuntimeError: with initdb's error message; nothing is left behind.
        """
        logger.info("creating a PostgreSQL data folder in %s", self.folder)
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        try:
            user = server_user(fresh)
            if user is not None:
                os.chown(fresh, user.uid, user.gid)
            arguments = ("--auth=trust", "--encoding=UTF8", "--username=postgres", *_LOCALE)
            said = run_program(user, fresh, "initdb", *arguments, "-D", data_argument(fresh, user))
            if said is not None:
                raise RuntimeError(_failure_reason(said))
            with (fresh / "postgresql.conf").open("a") as configuration:
                configuration.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
            fresh.rename(self.folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def start(self) -> str:
        """Returns the DSN once the server accepts connections.

        :raises RuntimeError: with the server's error message if it does not start.
        """
        for wait in _ORPHAN_WAITS:
            time.sleep(wait)
            if dsn := self._wait_for_running():
                return dsn
            # After a crash and a reboot, another process may have the pid in them, and PostgreSQL would not start.
            for stale in (self.folder / "postmaster.pid", self.folder / f"{_SOCKET}.lock"):
                stale.unlink(missing_ok=True)
            log = self.folder / "log"
            log_size = log.stat().st_size if log.exists() else 0
            self._launch()
            if dsn := self.dsn():
                return dsn
        with log.open(errors="replace") as lines:
            lines.seek(log_size)
            raise RuntimeError(_failure_reason(lines.read()))

    def stop(self) -> bool:
        """Stops the server and returns whether it ran. Transactions in progress are rolled back.

        :raises RuntimeError: if it does not stop.
        """
        import psutil  # type: ignore[import-untyped]

        process = self.process()
        if process is None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            give_up_at = time.monotonic() + _START_SECONDS
            # A zombie has ended. Its parent, the first process of a machine or a container, may leave it so for long.
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > give_up_at:
                    raise RuntimeError(f"process {process.pid} does not end")
                time.sleep(0.02)
        return True

    def process(self) -> Any:
        """Returns the postmaster as a psutil.Process, or None.

        It is found by the folder's identity on its command line, because a copy of a folder has the postmaster.pid of
        the original.
        """
        import psutil

        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if command and Path(command[0]).name == "postgres" and self._cluster_name() in command:
                return process
        return None

    def _wait_for_running(self) -> str | None:
        """Waits for a running or starting server and returns its DSN, or None if there is none or it ends."""
        started_at = time.monotonic()
        log_at, give_up_at = started_at + _LOG_AFTER_SECONDS, started_at + _START_SECONDS
        while (process := self.process()) is not None:
            if dsn := self.dsn():
                return dsn
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"process {process.pid} is its server and cannot be reached")
            if self._is_ready() and not (self.folder / _SOCKET).exists():
                logger.warning("the embedded PostgreSQL in %s has lost its socket; restarting it", self.folder)
                self.stop()
            elif time.monotonic() > log_at:
                logger.info("waiting for the embedded PostgreSQL in %s to start", self.folder)
                log_at = math.inf
            time.sleep(0.1)
        return None

    def _is_ready(self) -> bool:
        """Returns whether postmaster.pid says so in its eighth line.

        https://www.postgresql.org/docs/current/storage-file-layout.html
        """
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return [line.strip() for line in lines[7:8]] == ["ready"]

    def _launch(self) -> None:
        self._socket_folder()  # raises an error if the server would not be reached
        user = server_user(self.folder)
        # PostgreSQL refuses a folder that others can read, or that is root's, such as root's copy of a backup.
        if (mode := self.folder.stat().st_mode) & 0o027:
            self.folder.chmod(mode & ~0o027)
        if user is not None and self.folder.stat().st_uid == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, user.uid, user.gid, follow_symlinks=False)
        data = data_argument(self.folder, user)
        # The socket's folder is a relative path, so that a server whose folder was removed does not remove its
        # successor's socket at its end. If /dev/shm is not writable, System V shared memory is used.
        options = ["-h", "", "-p", str(PORT), "-k", ".", "-c", self._cluster_name()]
        if not _shared_memory_is_writable(user):
            options += ["-c", "dynamic_shared_memory_type=sysv"]
        wait = ("-w", "-t", str(_START_SECONDS))
        # pg_ctl passes the options through a shell.
        run_program(user, self.folder, "pg_ctl", "start", *wait, "-D", data, "-l", "log", "-o", shlex.join(options))

    def _cluster_name(self) -> str:
        """Returns a setting that a folder keeps when it is moved; a copy or a new folder of its name has another."""
        info = self.folder.stat()
        return f"cluster_name=pipeline-{info.st_dev:x}-{info.st_ino:x}"

    def _socket_folder(self) -> Path:
        """Returns the data folder, which has the socket, by a path that fits into a socket's address.

        :raises OSError: if that is a link in the folder for temporary files, and somebody else has made it.
        """
        # libpq takes a comma for the separator between hosts.
        if len(os.fsencode(self.folder / _SOCKET)) <= _MAX_SOCKET_PATH and "," not in str(self.folder):
            return self.folder
        name = f"tlc-{os.geteuid()}-{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]}"
        link = Path(tempfile.gettempdir(), name)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(self.folder)
        if link.lstat().st_uid != os.geteuid() or not link.samefile(self.folder):
            raise FileExistsError(f"{link} is not a link to {self.folder}")
        return link


def _failure_reason(text: str) -> str:
    """Returns the line of PostgreSQL's output that has the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if any(mark in line for mark in ("FATAL:", "PANIC:", "error:"))] or lines[-1:]
    return reasons[0] if reasons else "it exits immediately"


def _shared_memory_is_writable(user: ServerUser | None) -> bool:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return sys.platform != "linux"  # other systems have no such folder
    return os.access(folder, os.W_OK) and (user is None or bool(folder.stat().st_mode & stat.S_IWOTH))
