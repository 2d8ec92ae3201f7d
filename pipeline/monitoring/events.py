"""What becomes of a run's tasks, as Luigi's events tell it: to the run's log, the metrics and the alerts.

START, SUCCESS and FAILURE are triggered in the process that runs the task, which is a fork where there are several
workers; all others in the process that schedules.
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
from pipeline.monitoring.alerts import AlertState, Subject
from pipeline.monitoring.channels import configured_channels
from pipeline.monitoring.logs import (
    ExplainedErrors,
    RunLog,
    WithoutTaskLines,
    explanation,
    one_line,
    public_parameters,
    set_up_logs,
    task_fields,
)
from pipeline.monitoring.metrics import MetricsFile
from pipeline.settings import AlertSettings, LogSettings, StorageSettings
from pipeline.tasks.base import PipelineTask, ReleaseTask
from pipeline.tasks.catch_up import REPUBLISHED

logger = logging.getLogger("luigi-interface")


class Monitor:
    """The log, metrics and alerts of this run.

    It is made once a run has begun, when the command line is known, and inherited by the workers that fork.
    """

    def __init__(self) -> None:
        storage, alerts = StorageSettings(), AlertSettings()
        self._logs_folder, self._keep_days = storage.folder("logs").resolve(), LogSettings().keep_days
        self._run = str(self._logs_folder / run_log.file_name)
        self._metrics = MetricsFile(storage.metrics_file())
        self._alerts = AlertState(storage.alert_state(), alerts.gather_minutes * 60, alerts.burst_hours * 3600)
        self._link = alerts.link
        self._channels = configured_channels(alerts.webhook_url)
        self._success_channels = self._channels if alerts.tell_success else {}
        atexit.register(self._deliver, self._run)

    def open_log(self) -> None:
        """Opens the run's log: there is something to do."""
        if not run_log.is_open:
            run_log.open(self._logs_folder, self._keep_days)

    def failed(self, task: luigi.Task, error: str) -> None:
        """Alerts of a failure, and counts it."""
        if self._channels or not self._alerts.is_empty():
            self._warn(self._alerts.failed(self._subject(task), error, self._run, self._channels))
        self._deliver()
        self._metrics.task_failed(task.task_family, _dataset(task))

    def succeeded(self, task: luigi.Task, seconds: float) -> None:
        """Alerts of a success where it ends a burst of failures or all successes are to be alerted of; counts it."""
        if not isinstance(task, PipelineTask):
            self.is_complete(task)
            return
        message = task.status_message or "done"
        self._alerts.succeeded(self._subject(task), message, self._run, self._success_channels)
        self._deliver()
        self._metrics.task_succeeded(task.task_family, _dataset(task), seconds, int(task.facts.get("rows", 0)))

    def republished(self, task: luigi.Task, message: str) -> None:
        """Alerts of a loaded month that its source has published again."""
        self._alerts.republished(self._subject(task), message, self._run, self._channels)

    def is_complete(self, task: luigi.Task) -> None:
        """Ends the burst of a task that another run has done."""
        if not self._alerts.is_empty():
            self._alerts.succeeded(self._subject(task), "it is complete", self._run, {})

    def _deliver(self, ended_run: str | None = None) -> None:
        """Sends what is due; what cannot be delivered is one line each and remains pending."""
        try:
            self._warn(self._alerts.deliver(self._channels, ended_run))
        except OSError as error:
            self._warn([str(error)])

    def _warn(self, problems: list[str]) -> None:
        for problem in problems:
            logger.warning("alert not delivered, to be tried again: %s", problem)

    def _subject(self, task: luigi.Task) -> Subject:
        return Subject(task.task_id, task.task_family, public_parameters(task), self._link or _page(task.task_id))


@functools.cache
def monitor() -> Monitor | None:
    """This run's monitor; None, and an error in the log, where a setting is wrong."""
    try:
        return Monitor()
    except PipelineError as error:
        logger.error("this run has no log, metrics and alerts: %s", error)
        return None


def open_log() -> None:
    """Opens the run's log: the worker has found something to do."""
    if monitoring := monitor():
        monitoring.open_log()


def begin_logging() -> None:
    """Joins the log that Luigi has set up by the time it makes a worker."""
    set_up_logs(run_log)


def scheduling_failed(task: luigi.Task, trace: str) -> None:
    """Logs and reports that complete() or requires() of a task has raised, by the text of the traceback."""
    fields = task_fields(task) | {"event": "failed", "error": one_line(trace)}
    reason = explanation(trace)
    logger.error("cannot schedule %s: %s", task, reason or f"\n{trace}", extra={"event": fields})
    _monitored(lambda monitoring: monitoring.failed(task, one_line(trace)))


def register_events() -> None:
    """Joins Luigi's events and its log; alerts take the location of Luigi's own e-mails."""
    luigi.notifications.send_error_email = _send_no_email
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
    logger.addFilter(WithoutTaskLines())
    logger.addFilter(ExplainedErrors())


def _on_start(task: luigi.Task) -> None:
    _started[task.task_id] = time.monotonic()
    if multiprocessing.parent_process() is not None:
        # Ctrl-C reaches every process of the terminal; the first one says what there is to say.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    open_log()
    logger.info("running   %s", task, extra={"event": task_fields(task) | {"event": "running"}})


def _on_success(task: luigi.Task) -> None:
    seconds = _seconds(task)
    facts = task.facts if isinstance(task, PipelineTask) else {}
    event = task_fields(task) | {"event": "done", "seconds": round(seconds, 3)} | facts
    logger.info("done      %s in %.1f s", task, seconds, extra={"event": event})
    _monitored(lambda monitoring: monitoring.succeeded(task, seconds))


def _on_failure(task: luigi.Task, error: BaseException | str) -> None:
    event = task_fields(task) | {"event": "failed", "seconds": round(_seconds(task), 3), "error": one_line(error)}
    if isinstance(error, PipelineError):
        logger.error("failed    %s: %s", task, error, extra={"event": event})
    else:
        trace = error if isinstance(error, BaseException) else None
        logger.error("failed    %s: %s", task, one_line(error), exc_info=trace, extra={"event": event})
    _monitored(lambda monitoring: monitoring.failed(task, one_line(error)))


def _on_present(task: luigi.Task) -> None:
    if StorageSettings().alert_state().exists():
        _monitored(lambda monitoring: monitoring.is_complete(task), opens_log=False)


def _on_republished(task: luigi.Task, message: str) -> None:
    _monitored(lambda monitoring: monitoring.republished(task, message))


def _monitored(react: Callable[[Monitor], None], opens_log: bool = True) -> None:
    """A full disk, say, is no reason for Luigi to log a traceback for each event."""
    if monitoring := monitor():
        if opens_log:
            monitoring.open_log()
        try:
            react(monitoring)
        except OSError as error:
            logger.warning("no alerts and metrics of this: %s", error)


def _seconds(task: luigi.Task) -> float:
    """How long ago the task began in this process; 0 where it has not."""
    return time.monotonic() - _started.get(task.task_id, time.monotonic())


def _page(task_id: str) -> str:
    """The task's page in the central scheduler; nothing where there is none."""
    core = luigi.interface.core()
    if core.local_scheduler:
        return ""
    url = core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}"
    return f"{without_credentials(url).rstrip('/')}/static/visualiser/index.html#tab=graph&taskId={quote(task_id)}"


def _dataset(task: luigi.Task) -> str:
    return task.release.dataset.name if isinstance(task, ReleaseTask) else ""


def _send_no_email(subject: str, message: str, additional_recipients: object = None) -> None:
    """Stands in for Luigi's own e-mails, one for each failure, which the alerts replace."""


_started: dict[str, float] = {}  # by task, of this process
run_log = RunLog()
