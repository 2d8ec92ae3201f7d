"""What outlives the process of a schedule: when a dataset was last caught up with, and that it is being done."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.files import replace_file


class Record:
    """A dataset's file, which holds a time, and a lock that is held while a catch-up runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / name

    def last_success(self) -> datetime.datetime | None:
        """When the last catch-up that succeeded began; None before there was one."""
        try:
            return datetime.datetime.fromisoformat(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def save_success(self, began: datetime.datetime) -> None:
        """Records a catch-up that succeeded; a crash leaves this or the one before, never half of a time.

        :raises OSError: when it cannot be written.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, began.isoformat().encode())

    @contextlib.contextmanager
    def locked(self) -> Iterator[TextIO | None]:
        """Yields the locked file, or None while another process has it.

        A child process that is given the file keeps it locked until it ends too, even if this one is killed.
        """
        lock = self._file.parent / ".locks" / self._file.name  # not the file itself, which is replaced
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file
