"""Logs, metrics and alerts of a run, by Luigi's events. Their failures never fail a task.

START, SUCCESS and FAILURE are triggered in the process that runs the task, which is forked if there are several
workers; all other events in the process that schedules.
"""

from __future__ import annotations

import atexit
import functools
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from urllib.parse import quote

import luigi
import luigi.interface
import luigi.notifications

from pipeline.errors import PipelineError
from pipeline.extract.locations import without_credentials
from pipeline.monitoring.alert_state import AlertState
from pipeline.monitoring.alerts import Subject
from pipeline.monitoring.channels import configured_channels
from pipeline.monitoring.logs import (
    error_summary,
    event_fields,
    explained_error,
    is_no_task_message,
    public_parameters,
    run_log,
    shorten_expected_error,
)
from pipeline.monitoring.metrics import MetricsFile
from pipeline.settings import AlertSettings, LogSettings, StorageSettings
from pipeline.tasks.base import PipelineTask, ReleaseTask
from pipeline.tasks.catch_up import REPUBLISHED

logger = logging.getLogger("luigi-interface")


class Monitor:
    """The log, metrics and alerts of this run.

    Created after the command line was parsed, and inherited by forked workers.
    """

    def __init__(self) -> None:
        storage, alerts = StorageSettings(), AlertSettings()
        self._logs_folder, self._keep_days = storage.logs_folder().resolve(), LogSettings().keep_days
        self._run = str(self._logs_folder / run_log.file_name)
        self._metrics = MetricsFile(storage.metrics_file())
        self._alerts = AlertState(storage.alert_state(), alerts.gather_minutes * 60, alerts.burst_hours * 3600)
        self._link = alerts.link
        self._channels = configured_channels(alerts.webhook_url)
        self._success_channels = self._channels if alerts.tell_success else {}
        atexit.register(self._deliver, self._run)

    def open_log(self) -> None:
        """Opens the run's log, because there is something to do."""
        if not run_log.is_open:
            run_log.open(self._logs_folder, self._keep_days)

    def failed(self, task: luigi.Task, error: str) -> None:
        """Records a failure in the alerts and the metrics."""
        if self._channels or not self._alerts.is_empty():
            self._warn(self._alerts.failed(self._subject(task), error, self._run, self._channels))
        self._deliver()
        self._metrics.task_failed(task.task_family, _dataset(task))

    def succeeded(self, task: luigi.Task, seconds: float) -> None:
        """Records a success in the alerts and the metrics."""
        if not isinstance(task, PipelineTask):
            self.is_complete(task)
            return
        message = task.status_message or "done"
        self._alerts.succeeded(self._subject(task), message, self._run, self._success_channels)
        self._deliver()
        self._metrics.task_succeeded(task.task_family, _dataset(task), seconds, int(task.facts.get("rows", 0)))

    def republished(self, task: luigi.Task, message: str) -> None:
        """Records an alert that a loaded month was published again."""
        self._alerts.republished(self._subject(task), message, self._run, self._channels)

    def is_complete(self, task: luigi.Task) -> None:
        """Ends the burst of a task that another run has completed."""
        if not self._alerts.is_empty():
            self._alerts.succeeded(self._subject(task), "it is complete", self._run, {})

    def _deliver(self, ended_run: str | None = None) -> None:
        """Sends the alerts that are due; logs those that cannot be delivered and remain pending."""
        try:
            self._warn(self._alerts.deliver(self._channels, ended_run))
        except OSError as error:
            self._warn([str(error)])

    def _warn(self, problems: list[str]) -> None:
        for problem in problems:
            logger.warning("alert not delivered, will be retried: %s", problem)

    def _subject(self, task: luigi.Task) -> Subject:
        return Subject(
            task.task_id, task.task_family, public_parameters(task), self._link or _task_page_url(task.task_id)
        )


@functools.cache
def monitor() -> Monitor | None:
    """Returns this run's monitor; logs an error and returns None if a setting is invalid."""
    try:
        return Monitor()
    except PipelineError as error:
        logger.error("this run writes no log and no metrics, and sends no alerts: %s", error)
        return None


def open_log() -> None:
    """Opens the run's log when the worker has found something to do."""
    if monitoring := monitor():
        monitoring.open_log()


def scheduling_failed(task: luigi.Task, trace: str) -> None:
    """Logs and records that complete() or requires() of a task raised an exception, given its traceback."""
    error = error_summary(trace)
    reason = explained_error(trace) or f"\n{trace}"
    logger.error("cannot schedule %s: %s", task, reason, extra=event_fields(task, "failed", error=error))
    _notify_monitor(lambda monitoring: monitoring.failed(task, error))


def register_events() -> None:
    """Registers handlers for Luigi's events and filters for its log; replaces Luigi's e-mails by alerts."""
    luigi.notifications.send_error_email = lambda *_, **__: None
    for event, handler in {
        luigi.Event.START: _on_start,
        luigi.Event.SUCCESS: _on_success,
        luigi.Event.FAILURE: _on_failure,
        luigi.Event.PROCESS_FAILURE: _on_failure,
        luigi.Event.TIMEOUT: _on_failure,
        luigi.Event.DEPENDENCY_PRESENT: _on_present,
        REPUBLISHED: _on_republished,
    }.items():
        luigi.Task.event_handler(event)(handler)
    logger.addFilter(is_no_task_message)
    logger.addFilter(shorten_expected_error)


def _on_start(task: luigi.Task) -> None:
    _started[task.task_id] = time.monotonic()
    if multiprocessing.parent_process() is not None:
        # Ctrl-C reaches every process of the terminal; only the parent process logs it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    open_log()
    logger.info("running   %s", task, extra=event_fields(task, "running"))


def _on_success(task: luigi.Task) -> None:
    seconds = _elapsed_seconds(task)
    facts = task.facts if isinstance(task, PipelineTask) else {}
    fields = event_fields(task, "done", seconds=round(seconds, 3), **facts)
    logger.info("done      %s in %.1f s", task, seconds, extra=fields)
    _notify_monitor(lambda monitoring: monitoring.succeeded(task, seconds))


def _on_failure(task: luigi.Task, error: BaseException | str) -> None:
    summary, is_expected = error_summary(error), isinstance(error, PipelineError)
    trace = error if isinstance(error, BaseException) and not is_expected else None
    fields = event_fields(task, "failed", seconds=round(_elapsed_seconds(task), 3), error=summary)
    logger.error("failed    %s: %s", task, error if is_expected else summary, exc_info=trace, extra=fields)
    _notify_monitor(lambda monitoring: monitoring.failed(task, summary))


def _on_present(task: luigi.Task) -> None:
    if StorageSettings().alert_state().exists():
        _notify_monitor(lambda monitoring: monitoring.is_complete(task), opens_log=False)


def _on_republished(task: luigi.Task, message: str) -> None:
    _notify_monitor(lambda monitoring: monitoring.republished(task, message))


def _notify_monitor(react: Callable[[Monitor], None], opens_log: bool = True) -> None:
    """Calls `react` with the monitor; logs an OSError, such as a full disk, in one line."""
    if monitoring := monitor():
        if opens_log:
            monitoring.open_log()
        try:
            react(monitoring)
        except OSError as error:
            logger.warning("the alerts and metrics cannot be updated: %s", error)


def _elapsed_seconds(task: luigi.Task) -> float:
    """Returns the seconds since the task started in this process, or 0 if it did not."""
    return time.monotonic() - _started.get(task.task_id, time.monotonic())


def _task_page_url(task_id: str) -> str:
    """Returns the URL of the task's page in the central scheduler; empty if there is none."""
    core = luigi.interface.core()
    if core.local_scheduler:
        return ""
    url = core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}"
    return f"{without_credentials(url).rstrip('/')}/static/visualiser/index.html#tab=graph&taskId={quote(task_id)}"


def _dataset(task: luigi.Task) -> str:
    return task.release.dataset.name if isinstance(task, ReleaseTask) else ""


_started: dict[str, float] = {}  # start times of the tasks of this process
