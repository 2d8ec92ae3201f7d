"""The log of a run: JSON in a file, and plain lines or JSON on standard error."""

from __future__ import annotations

import collections
import contextlib
import datetime
import fcntl
import json
import logging
import os
import re
import socket
import sys
import time
import traceback
from pathlib import Path

import luigi
import luigi.parameter
import luigi.rpc

from pipeline.datasets import format_month
from pipeline.errors import PipelineError, shortened
from pipeline.settings import LogSettings
from pipeline.tasks.base import ReleaseTask

logger = logging.getLogger("luigi-interface")

_MAX_BUFFERED = 10_000
_DAY = 86_400
_MAX_ERROR_CHARACTERS = 500
_LOCK_ATTEMPTS, _LOCK_WAIT = 50, 0.02
_LUIGI = str(Path(luigi.__file__).parent)
# The last line of a traceback of an exception that needs no traceback: one of this package's or Luigi's.
_EXPLAINED = r"(?:pipeline|luigi)\.[\w.]+: (.*)"
# The environment variable with which `pipeline ui` gives a run its start, and so its id and the name of its log.
RUN_STARTED = "PIPELINE_RUN_STARTED"


def timestamp(seconds: float | None = None) -> str:
    """Returns a time, by default the current one, as in the logs: ISO 8601 in UTC."""
    at = time.time() if seconds is None else seconds
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat("T", "milliseconds")


def run_id(started: str, pid: int) -> str:
    """Returns the id of a run, which is the name of its log, by the time of its start and its process."""
    return f"{datetime.datetime.fromisoformat(started):%Y%m%dT%H%M%S%f}-{pid}"


class JsonFormatter(logging.Formatter):
    """Formats a record as a line of JSON: time, level, message, and the fields in its `event`, such as rows."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": timestamp(record.created),
            "level": record.levelname,
            "message": record.getMessage(),
            "host": socket.gethostname(),
            "pid": record.process,
        }
        line |= getattr(record, "event", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainFormatter(logging.Formatter):
    """Formats a record with its time and its level; on a terminal, only warnings and errors show the level."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__(datefmt="%H:%M:%S" if is_terminal else "%Y-%m-%d %H:%M:%S")
        self._is_terminal = is_terminal

    def formatMessage(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if message.startswith("\n"):  # Luigi's summary
            return message
        level = "" if self._is_terminal and record.levelno <= logging.INFO else f"{record.levelname}: "
        return f"{self.formatTime(record, self.datefmt)} {level}{message}"


class RunLog(logging.Handler):
    """Writes a run's log to a file. Buffers records until it is opened, when the run has something to do.

    A run without work leaves no file. Forked workers append to their parent's file, each line in a single write. The
    file is locked until the last of these processes has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        started = os.environ.pop(RUN_STARTED, "") or datetime.datetime.now(datetime.UTC).isoformat()
        # In microseconds, because containers that start together share a folder and have the same process ids.
        self.file_name = f"{run_id(started, os.getpid())}.jsonl"
        self.is_open = False
        self._buffer = collections.deque[logging.LogRecord](maxlen=_MAX_BUFFERED)
        self._descriptor: int | None = None

    def open(self, folder: Path, keep_days: int) -> None:
        """Opens the file and writes the buffered records; removes files older than `keep_days`.

        If the file cannot be written, logs one warning and discards records.
        """
        self.is_open = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / self.file_name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _lock(self._descriptor)
            _remove_old_files(folder, time.time() - keep_days * _DAY)
        except OSError as error:
            logger.warning("this run writes no log: %s", error)
        while self._buffer:
            self.handle(self._buffer.popleft())

    def emit(self, record: logging.LogRecord) -> None:
        if not self.is_open:
            self._buffer.append(record)
        elif self._descriptor is not None:
            try:
                os.write(self._descriptor, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
            except OSError as error:
                self._descriptor = None
                logger.warning("this run writes no log: %s", error)


def _lock(descriptor: int) -> None:
    """Locks a file until all processes that have it open have ended; not on a file system without locks."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:  # whoever asks whether the run goes on has it for an instant
            time.sleep(_LOCK_WAIT)
        except OSError:
            return


def shorten_expected_error(record: logging.LogRecord) -> bool:
    """Replaces the traceback of an expected error by its message; unexpected errors keep theirs."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if isinstance(error, PipelineError | luigi.parameter.MissingParameterException | luigi.rpc.RPCError):
        hint = "; start it with `pipeline ui`" if isinstance(error, luigi.rpc.RPCError) else ""
        record.msg, record.args = f"{record.getMessage()}: {error}{hint}", ()
        record.exc_info = None
    return True


def is_no_task_message(record: logging.LogRecord) -> bool:
    """Returns False for Luigi's messages about the start, success or failure of a task, which event handlers log."""
    has_task = isinstance(record.args, tuple) and any(isinstance(each, luigi.Task) for each in record.args)
    return not (has_task and _is_logged_by_luigi(record) and record.funcName in ("run", "_handle_run_exception"))


def is_shown(record: logging.LogRecord) -> bool:
    """Returns False for Luigi's INFO messages except its summary, unless the log level is DEBUG."""
    if record.levelno != logging.INFO or not _is_logged_by_luigi(record) or logger.isEnabledFor(logging.DEBUG):
        return True
    return record.getMessage().startswith("\n")


run_log = RunLog()  # of this process and the workers that it forks


def set_up_logs() -> None:
    """Adds the run's log to Luigi's logger, which must be configured, and sets the format of standard error."""
    if run_log in logger.handlers:
        return
    standard_error = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
    logger.addHandler(run_log)
    as_json = False
    try:
        as_json = LogSettings().as_json()
    except PipelineError as error:
        logger.error("%s", error)
    for handler in standard_error:
        if as_json:
            handler.setFormatter(JsonFormatter())
        else:
            handler.setFormatter(PlainFormatter(sys.stderr.isatty()))
            handler.addFilter(is_shown)


def event_fields(task: luigi.Task, event: str, **facts: object) -> dict[str, dict[str, object]]:
    """Returns the description of a task's event, as an attribute of the log record for the formatters."""
    fields: dict[str, object] = {"task": task.task_family, "parameters": public_parameters(task)}
    if isinstance(task, ReleaseTask):
        fields["dataset"] = task.release.dataset.name
        if task.release.month:
            fields["month"] = format_month(task.release.month)
    return {"event": {**fields, "event": event, **facts}}


def public_parameters(task: luigi.Task) -> dict[str, str]:
    """Returns the task's significant public parameters as on the command line."""
    return dict(task.to_str_params(only_significant=True, only_public=True))


def explained_error(trace: str) -> str | None:
    """Returns the message of an expected error from its traceback; None for an unexpected error."""
    found = re.fullmatch(_EXPLAINED, trace.strip().splitlines()[-1])
    return found[1] if found else None


def error_summary(error: BaseException | str) -> str:
    """Returns an error, or a traceback, as one line."""
    if isinstance(error, PipelineError):
        line = str(error)
    elif isinstance(error, BaseException):
        line = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    else:
        line = explained_error(error) or error.strip().splitlines()[-1]
    return shortened(line, _MAX_ERROR_CHARACTERS)


def _is_logged_by_luigi(record: logging.LogRecord) -> bool:
    return record.pathname.startswith(_LUIGI)


def _remove_old_files(folder: Path, oldest: float) -> None:
    for file in folder.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # another run has just removed it
            if file.stat().st_mtime < oldest:
                file.unlink()
