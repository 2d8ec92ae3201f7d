"""Where the files are that the package reads and those that it writes, and how several processes write one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).parent
# What holds the package: the checkout, or the environment's site-packages where a wheel is installed.
CHECKOUT = _PACKAGE.parent
_IN_CHECKOUT = (CHECKOUT / "luigi.cfg").is_file() and (CHECKOUT / "sql").is_dir()
# What the package reads and is not Python: a wheel brings a copy (setup.py).
SHIPPED = CHECKOUT if _IN_CHECKOUT else _PACKAGE / "shipped"
SQL = SHIPPED / "sql"
SAMPLES = SHIPPED / "samples"


def data_home() -> Path:
    """The folder that a relative storage root is below, wherever a command runs.

    That is the checkout; without one `$XDG_DATA_HOME/tlc-pipeline`, by default `~/.local/share/tlc-pipeline`.
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    if _IN_CHECKOUT:
        return CHECKOUT
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".local" / "share") / "tlc-pipeline"


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keeps two processes from writing the same file.

    :raises OSError: when the folder cannot be written.
    """
    with lock_held(file.parent / ".locks" / file.name):
        yield


@contextlib.contextmanager
def lock_held(lock_file: Path) -> Iterator[None]:
    """Waits for a lock and holds it; the kernel drops the lock of a killed process.

    :raises OSError: when the lock's file cannot be written.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace_file(file: Path, content: bytes) -> None:
    """Puts the content in the place of the file's own, for readers all at once.

    :raises OSError: when it cannot be written; the file is then as it was.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
