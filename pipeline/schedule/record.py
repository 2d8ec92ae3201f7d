"""What outlives the process of a schedule: when each dataset was last caught up with, and that one is at it."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class Record:
    """A dataset's file: a time, and a lock that is held while a catch-up runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / name

    def last(self) -> datetime.datetime | None:
        """When the last catch-up that succeeded began; None before there was one."""
        try:
            return datetime.datetime.fromisoformat(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def note(self, began: datetime.datetime) -> None:
        """Notes a catch-up that succeeded."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(began.isoformat())

    @contextlib.contextmanager
    def locked(self) -> Iterator[TextIO | None]:
        """Yields the locked file, or None while another process has it.

        A child process that is given the file keeps it locked until it ends too, even if this one is killed.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file
