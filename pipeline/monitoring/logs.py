"""The log of a run: JSON in a file of the run's own, plain lines for people on standard error."""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import logging
import os
import re
import sys
import time
import traceback
from pathlib import Path

import luigi
import luigi.parameter
import luigi.rpc

from pipeline.datasets import format_month
from pipeline.errors import PipelineError
from pipeline.settings import LogSettings
from pipeline.tasks.base import ReleaseTask

logger = logging.getLogger("luigi-interface")

_KEPT_BEFORE_OPENING = 10_000
_DAY = 86_400
_LONGEST_ERROR = 500
_LUIGI = str(Path(luigi.__file__).parent)
# The last line of a traceback of what explains itself: an exception of this package, or one of Luigi's.
_EXPLAINED = r"(?:pipeline|luigi)\.[\w.]+: (.*)"


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


class PlainFormatter(logging.Formatter):
    """A line begins with its time, and its level unless a person looks on who needs to know of warnings only."""

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
    """Writes what a run logs to a file, from the first line on, once the run has something to do: then it is opened.

    A run that finds everything done leaves no file. Forked workers append to their parent's, each line in one write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.file_name = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{os.getpid()}.jsonl"
        self.is_open = False
        self._waiting = collections.deque[logging.LogRecord](maxlen=_KEPT_BEFORE_OPENING)
        self._descriptor: int | None = None

    def open(self, folder: Path, keep_days: int) -> None:
        """Writes what has been logged so far, and from now on each line; removes files older than `keep_days`.

        Where the file cannot be written, there is one warning and no log.
        """
        self.is_open = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / self.file_name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _remove_older(folder, time.time() - keep_days * _DAY)
        except OSError as error:
            logger.warning("this run has no log: %s", error)
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
            logger.warning("this run has no log: %s", error)


class ExplainedErrors(logging.Filter):
    """Turns the traceback of an explained failure into its one line; bugs keep theirs."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, PipelineError | luigi.parameter.MissingParameterException | luigi.rpc.RPCError):
            remedy = "; start it with `pipeline ui`" if isinstance(error, luigi.rpc.RPCError) else ""
            record.msg, record.args = f"{record.getMessage()}: {error}{remedy}", ()
            record.exc_info = None
        elif isinstance(error, ValueError | luigi.parameter.ParameterException) and _is_of_command_line(error):
            record.msg, record.args = f"the command line means nothing to Luigi: {error}; see --help", ()
            record.exc_info = None
        return True


class WithoutTaskLines(logging.Filter):
    """Leaves out what Luigi logs when a task starts, is done or has failed: the handlers of these events log it."""

    def filter(self, record: logging.LogRecord) -> bool:
        is_of_task = isinstance(record.args, tuple) and any(isinstance(each, luigi.Task) for each in record.args)
        return not (is_of_task and _is_of_luigi(record) and record.funcName in ("run", "_handle_run_exception"))


class WithoutChatter(logging.Filter):
    """Leaves out what Luigi says of its own doings, except its summary and where they are debugged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.INFO or not _is_of_luigi(record) or logger.isEnabledFor(logging.DEBUG):
            return True
        return record.getMessage().startswith("\n")


def set_up_logs(run_log: RunLog) -> None:
    """Lets Luigi's logger, set up by now, write to the log of the run, and readable lines to standard error."""
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
            handler.addFilter(WithoutChatter())


def task_fields(task: luigi.Task) -> dict[str, object]:
    """What programs want to know of the task that a line is about."""
    fields: dict[str, object] = {"task": task.task_family, "parameters": public_parameters(task)}
    if isinstance(task, ReleaseTask):
        fields["dataset"] = task.release.dataset.name
        if task.release.month:
            fields["month"] = format_month(task.release.month)
    return fields


def public_parameters(task: luigi.Task) -> dict[str, str]:
    """The parameters that distinguish the task from others of its family, as the command line has them."""
    return dict(task.to_str_params(only_significant=True, only_public=True))


def explanation(trace: str) -> str | None:
    """The one line of a traceback that ends in an explained failure; None for a bug's."""
    found = re.fullmatch(_EXPLAINED, trace.strip().splitlines()[-1])
    return found[1] if found else None


def one_line(error: BaseException | str) -> str:
    """What went wrong: the last line of a traceback that is text, the first of the error's own words."""
    if isinstance(error, PipelineError):
        line = str(error)
    elif isinstance(error, BaseException):
        line = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    else:
        line = explanation(error) or error.strip().splitlines()[-1]
    return line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}…"


def _is_of_luigi(record: logging.LogRecord) -> bool:
    return record.pathname.startswith(_LUIGI)


def _is_of_command_line(error: BaseException) -> bool:
    """Whether Luigi came upon it while it read the command line, before anything of a task had run."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "luigi.cmdline_parser" in modules and not any(name.startswith("pipeline.") for name in modules)


def _remove_older(folder: Path, than: float) -> None:
    for file in folder.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # another run has just removed it
            if file.stat().st_mtime < than:
                file.unlink()
