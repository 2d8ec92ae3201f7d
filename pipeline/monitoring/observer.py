"""What becomes of a run is noted: in its log, in the metrics, in alerts."""

from __future__ import annotations

import atexit
import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import luigi
import luigi.interface

from pipeline.extract.credentials import without_credentials
from pipeline.monitoring.log_lines import public_parameters
from pipeline.monitoring.metrics import MetricsFile
from pipeline.monitoring.run_log import RunLog
from pipeline.settings import AlertSettings, LogSettings, StorageSettings
from pipeline.tasks.base import PipelineTask, ReleaseTask

if TYPE_CHECKING:
    from pipeline.monitoring.alert import Subject
    from pipeline.monitoring.messages import Message

logger = logging.getLogger("luigi-interface")


class Observer:
    """What becomes of a run, for those who look at it later or from afar.

    It is made once a run has begun, when the command line is known, and inherited by the workers that fork.
    """

    def __init__(self, run_log: RunLog) -> None:
        from pipeline.monitoring.alert_state import AlertState
        from pipeline.monitoring.mail import Mail
        from pipeline.monitoring.webhook import post

        place, wanted, mail = StorageSettings(), AlertSettings(), Mail()
        self.run_log, self.logs_folder, self.keep_days = (
            run_log,
            place.folder("logs").resolve(),
            LogSettings().keep_days,
        )
        self.run = str(self.logs_folder / run_log.file_name)
        self.metrics = MetricsFile(place.metrics_file())
        self.alerts = AlertState(place.alert_state(), wanted.gather_minutes * 60, wanted.burst_hours * 3600)
        self.link = wanted.link
        self.channels: dict[str, Callable[[Message], None]] = {}
        if mail.is_wanted():
            self.channels["e-mail"] = mail.send
        if wanted.webhook_url:
            self.channels["webhook"] = functools.partial(post, wanted.webhook_url)
        self.success_channels = self.channels if wanted.tell_success else {}
        atexit.register(self.deliver, self.run)

    def works(self) -> None:
        """Opens the run's log: there is something to do."""
        if not self.run_log.is_open:
            self.run_log.open(self.logs_folder, self.keep_days)

    def failed(self, task: luigi.Task, error: str) -> None:
        """Lets a failure be told, and counts it."""
        if self.channels or not self.alerts.is_empty():
            self._warn(self.alerts.failed(self._subject(task), error, self.run, self.channels))
        self.deliver()
        self.metrics.task_failed(task.task_family, _dataset(task))

    def succeeded(self, task: luigi.Task, seconds: float) -> None:
        """Lets a success be told where it ends a burst of failures or every success is to be told, and counts it."""
        if not isinstance(task, PipelineTask):
            self.is_complete(task)
            return
        self.alerts.succeeded(self._subject(task), task.status_message or "done", self.run, self.success_channels)
        self.deliver()
        self.metrics.task_succeeded(task.task_family, _dataset(task), seconds, int(task.facts.get("rows", 0)))

    def is_complete(self, task: luigi.Task) -> None:
        """Lets the end of a burst be told whose task somebody else has done."""
        if not self.alerts.is_empty():
            self.alerts.succeeded(self._subject(task), "it is complete", self.run, {})

    def deliver(self, ended_run: str | None = None) -> None:
        """Tells what is due; what cannot be delivered is one line each and remains pending."""
        try:
            self._warn(self.alerts.deliver(self.channels, ended_run))
        except OSError as error:
            self._warn([str(error)])

    def _warn(self, problems: list[str]) -> None:
        for problem in problems:
            logger.warning("alert not delivered, to be tried again: %s", problem)

    def _subject(self, task: luigi.Task) -> Subject:
        from pipeline.monitoring.alert import Subject

        link = self.link or _page(task.task_id)
        return Subject(task.task_id, task.task_family, public_parameters(task), link)


def _page(task_id: str) -> str:
    """The task's page in the central scheduler; nothing where there is none."""
    core = luigi.interface.core()
    if core.local_scheduler:
        return ""
    url = core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}"
    return f"{without_credentials(url).rstrip('/')}/static/visualiser/index.html#tab=graph&taskId={quote(task_id)}"


def _dataset(task: luigi.Task) -> str:
    return task.release.dataset.name if isinstance(task, ReleaseTask) else ""
