"""What Luigi's events set in motion: the run's log, the metrics, the alerts. None of it ever fails a task."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import luigi
import luigi.notifications

from pipeline.errors import PipelineError
from pipeline.monitoring.log_lines import TaskFields, one_line
from pipeline.monitoring.observer import Observer
from pipeline.monitoring.run_log import JsonFormatter, RunLog
from pipeline.settings import LogSettings, StorageSettings

logger = logging.getLogger("luigi-interface")


@functools.cache
def observer() -> Observer | None:
    """This run's observer; None, and said why, where a setting is wrong."""
    try:
        return Observer(run_log)
    except PipelineError as error:
        logger.error("this run has no log, metrics and alerts: %s", error)
        return None


class Beginnings(logging.Filter):
    """Joins the log of a run when Luigi has set logging up, and opens the run's file when there is something to do.

    Luigi has no event for either. The second is when it tells its scheduler of a task to run: no worker has forked yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self._has_joined = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not self._has_joined and logger.hasHandlers():
            self._has_joined = True
            self._join()
        if isinstance(record.args, tuple) and record.args[1:] == ("PENDING",) and (observing := observer()):
            observing.works()
        return True

    def _join(self) -> None:
        standard_error = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
        logger.addHandler(run_log)
        try:
            formatter = JsonFormatter() if LogSettings().as_json() else None
        except PipelineError as error:
            logger.error("%s", error)
            return
        for handler in standard_error if formatter else []:
            handler.setFormatter(formatter)


def _observed(react: Callable[[Observer], None]) -> None:
    """A full disk, say, is no reason for Luigi to log a traceback for each event."""
    if observing := observer():
        observing.works()
        try:
            react(observing)
        except OSError as error:
            logger.warning("no alerts and metrics of this: %s", error)


def _on_start(task: luigi.Task) -> None:
    fields.started(task)
    _observed(lambda observing: None)


def _on_success(task: luigi.Task) -> None:
    _observed(lambda observing: observing.succeeded(task, fields.seconds(task)))


def _on_failure(task: luigi.Task, error: BaseException | str) -> None:
    _observed(lambda observing: observing.failed(task, one_line(error)))


def _on_missing(task: luigi.Task) -> None:
    """Of a task that can be run, this says that complete() has raised; the line that says why has just been logged."""
    if not isinstance(task, luigi.ExternalTask):
        error = one_line(fields.last_warning)
        _observed(lambda observing: observing.failed(task, error))


def _on_present(task: luigi.Task) -> None:
    if StorageSettings().alert_state().exists() and (observing := observer()):
        observing.is_complete(task)


def _no_log(error: OSError) -> None:
    logger.warning("this run has no log: %s", error)


def _luigi_sends_none(subject: str, message: str, additional_recipients: object = None) -> None:
    """Stands in for Luigi's own e-mails, one for each failure, which the alerts replace."""


fields = TaskFields()
run_log = RunLog(_no_log)


def register_events() -> None:
    """Joins Luigi's events and its log; alerts take the place of Luigi's own e-mails."""
    luigi.notifications.send_error_email = _luigi_sends_none
    for event, handler in {
        luigi.Event.START: _on_start,
        luigi.Event.SUCCESS: _on_success,
        luigi.Event.FAILURE: _on_failure,
        luigi.Event.BROKEN_TASK: _on_failure,
        luigi.Event.PROCESS_FAILURE: _on_failure,
        luigi.Event.TIMEOUT: _on_failure,
        luigi.Event.DEPENDENCY_MISSING: _on_missing,
        luigi.Event.DEPENDENCY_PRESENT: _on_present,
    }.items():
        luigi.Task.event_handler(event)(handler)
    # Before the tracebacks that hold the facts are cut to a line.
    logger.filters[:0] = [fields, Beginnings()]
