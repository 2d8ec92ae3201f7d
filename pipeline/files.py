"""Files that several processes write."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keeps two processes from writing the same file; the kernel drops the lock of a killed one.

    :raises OSError: when the folder cannot be written.
    """
    locks = file.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / file.name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace_text(file: Path, text: str) -> None:
    """Puts `text` in the place of the file's own, for readers all at once; the caller holds the lock."""
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    part.replace(file)
