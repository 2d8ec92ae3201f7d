"""The checkout, whose files the package reads, and files that several processes write."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SQL = CHECKOUT / "sql"


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
