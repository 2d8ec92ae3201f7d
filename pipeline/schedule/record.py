"""The persistent state of a schedule: the last successful catch-up of each dataset, and a lock."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.files import replace_file


class Record:
    """A dataset's file with the time of its last successful catch-up, and a lock that is held while one runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / name

    def last_success(self) -> datetime.datetime | None:
        """Returns when the last successful catch-up started, or None if there was none."""
        try:
            return datetime.datetime.fromisoformat(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def save_success(self, started_at: datetime.datetime) -> None:
        """Records a successful catch-up, atomically: after a crash the file contains the old or the new time.

        :raises OSError: if the file cannot be written.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, started_at.isoformat().encode())

    @contextlib.contextmanager
    def locked(self) -> Iterator[TextIO | None]:
        """Yields the locked file, or None if another process holds the lock.

        A child process that inherits the file holds the lock until it ends, even if this process is killed.
        """
        lock = self._file.parent / ".locks" / self._file.name  # a separate file, because the record is replaced
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file
