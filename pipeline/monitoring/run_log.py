"""The log of a run: JSON, a line an event, in a file of the run's own."""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

_KEPT_BEFORE_OPENING = 10_000
_DAY = 86_400


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and what the record carries in `event`, e.g. rows."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat("T", "milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            "pid": record.process,
        }
        line |= getattr(record, "event", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class RunLog(logging.Handler):
    """Writes what a run logs to a file, from the first line on, once the run has something to do: then it is opened.

    A run that finds everything done leaves no file. Forked workers append to their parent's, each line in one write.
    """

    def __init__(self, on_failure: Callable[[OSError], None]):
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.file_name = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{os.getpid()}.jsonl"
        self.is_open = False
        self._on_failure = on_failure
        self._waiting = collections.deque[logging.LogRecord](maxlen=_KEPT_BEFORE_OPENING)
        self._descriptor: int | None = None

    def open(self, folder: Path, keep_days: int) -> None:
        """Writes what has been logged so far, and from now on each line; removes files older than `keep_days`.

        Where the file cannot be written, the reason goes to `on_failure`, once, and there is no log.
        """
        self.is_open = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / self.file_name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _remove_older(folder, time.time() - keep_days * _DAY)
        except OSError as error:
            self._on_failure(error)
        while self._waiting:
            self.handle(self._waiting.popleft())

    def emit(self, record: logging.LogRecord) -> None:
        if self.is_open:
            self._write(record)
        else:
            self._waiting.append(record)

    def _write(self, record: logging.LogRecord) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            self._descriptor = None
            self._on_failure(error)


def _remove_older(folder: Path, than: float) -> None:
    for file in folder.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # another run has just removed it
            if file.stat().st_mtime < than:
                file.unlink()
