"""Luigi's own log lines, with what they are about in fields, for the run's log and for JSON on standard error."""

from __future__ import annotations

import logging
import re
import time
import traceback

import luigi

from pipeline.datasets import format_month
from pipeline.errors import PipelineError
from pipeline.tasks.base import PipelineTask, ReleaseTask

# Not compiled, as most processes have no use for them. "[pid %s] Worker %s running   %s" and the like, in luigi.worker
_WHAT_HAPPENED = r"Worker %s (running|done|failed)"
_OF_OURS = r"^pipeline\.[\w.]+: "
_LONGEST_ERROR = 500


class TaskFields(logging.Filter):
    """Adds to each of Luigi's lines about a task what programs want to know of it: `record.event`.

    The last warning is kept, as Luigi tells nobody else why it could not ask whether a task is complete.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last_warning = ""
        self._started: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.last_warning = record.getMessage()
        arguments = record.args if isinstance(record.args, tuple) else ()
        if task := next((each for each in arguments if isinstance(each, luigi.Task)), None):
            happened = re.search(_WHAT_HAPPENED, str(record.msg))
            error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
            record.event = self._event(task, happened[1] if happened else "", error)
        return True

    def started(self, task: luigi.Task) -> None:
        """Notes when a task begins."""
        self._started[task.task_id] = time.monotonic()

    def seconds(self, task: luigi.Task) -> float:
        """How long ago the task began; 0 where it has not."""
        return time.monotonic() - self._started.get(task.task_id, time.monotonic())

    def _event(self, task: luigi.Task, happened: str, error: BaseException | None) -> dict[str, object]:
        event = {"event": happened, "task": task.task_family, "parameters": public_parameters(task)}
        if isinstance(task, ReleaseTask):
            event |= {"dataset": task.release.dataset.name}
            event |= {"month": format_month(task.release.month)} if task.release.month else {}
        if happened in ("done", "failed"):
            event["seconds"] = round(self.seconds(task), 3)
        if happened == "done" and isinstance(task, PipelineTask):
            event |= task.facts
        if error is not None:
            event["error"] = one_line(error)
        return event


def public_parameters(task: luigi.Task) -> dict[str, str]:
    """The parameters that tell the task from others of its family, as they would be written on the command line."""
    return dict(task.to_str_params(only_significant=True, only_public=True))


def one_line(error: BaseException | str) -> str:
    """What went wrong: the last line of a traceback that is text, the first of the error's own words."""
    if isinstance(error, PipelineError):
        line = str(error)
    elif isinstance(error, BaseException):
        line = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    else:
        line = re.sub(_OF_OURS, "", error.strip().splitlines()[-1])
    return line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}…"
