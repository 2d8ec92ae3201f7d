"""An alert on a task, and the message in which one or more alerts are sent."""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

_MAX_LISTED = 20


class Status(StrEnum):
    """The result of a task."""

    FAILED = "failed"
    RECOVERED = "recovered"
    SUCCEEDED = "succeeded"
    REPUBLISHED = "republished"  # its month was published again


@dataclass(frozen=True)
class Subject:
    """The task that an alert is about, with its public parameters."""

    task_id: str
    family: str
    parameters: dict[str, str]
    link: str = ""

    def __str__(self) -> str:
        return f"{self.family}({', '.join(f'{name}={value}' for name, value in self.parameters.items())})"


@dataclass
class Alert:
    """The status of a task, and the channels that still have to be notified of it (`pending`).

    `notified` are the channels that were notified of the failure and will be notified of the recovery. `run` is the run
    that reported it last. Times are Unix seconds. Until `claimed_until`, a process is sending the alert.
    """

    subject: Subject
    status: Status
    detail: str
    run: str
    pending: list[str]
    notified: list[str] = field(default_factory=list)
    failures: int = 0
    since: float = field(default_factory=time.time)
    latest: float = field(default_factory=time.time)
    attempted: float = field(default_factory=time.time)
    claimed_until: float = 0.0

    def fail(self, detail: str, run: str, channels: list[str]) -> None:
        """Adds a failure to the burst; it is pending for channels that were not notified of the burst yet."""
        self.notified += self.pending if self.status is Status.RECOVERED else []
        self.pending = [name for name in channels if name not in self.notified]
        self.status, self.detail, self.run = Status.FAILED, detail, run
        self.failures, self.latest = self.failures + 1, time.time()

    def recover(self, detail: str, run: str) -> None:
        """Ends the burst; the recovery is pending for the channels that were notified of the failure."""
        self.pending, self.notified = self.notified, []
        self.status, self.detail, self.run = Status.RECOVERED, detail, run
        self.latest = self.attempted = time.time()

    def delivered(self, channel: str, sent: Status) -> None:
        """Records that a channel accepted a message; the task's status may have changed in the meantime."""
        if sent is self.status:
            self.pending = [name for name in self.pending if name != channel]
            self.notified += [channel] if sent is Status.FAILED else []
        elif sent is Status.FAILED:
            self.pending.append(channel)
        elif self.status is Status.FAILED:
            self.notified = [name for name in self.notified if name != channel]
            self.pending.append(channel)


@dataclass(frozen=True)
class Message:
    """One or more alerts with the same status, as text for people and as fields for programs."""

    status: Status
    alerts: Sequence[Alert]

    @property
    def subject(self) -> str:
        """One line with the task, or the number of tasks, the status and the host."""
        tasks = str(self.alerts[0].subject) if len(self.alerts) == 1 else f"{len(self.alerts)} tasks"
        return f"{tasks} {self.status} on {socket.gethostname()}"

    @property
    def text(self) -> str:
        """The subject, followed by a paragraph for each of the first tasks."""
        paragraphs = [self._paragraph(alert) for alert in self.alerts[:_MAX_LISTED]]
        more = len(self.alerts) - _MAX_LISTED
        return "\n\n".join([self.subject, *paragraphs, *([f"and {more} more"] if more > 0 else [])]) + "\n"

    def fields(self) -> dict[str, object]:
        """Returns the message for JSON, with all tasks."""
        tasks = [
            {
                "task": alert.subject.family,
                "parameters": alert.subject.parameters,
                "detail": alert.detail,
                "failures": alert.failures,
                "since": _format_time(alert.since),
                "link": alert.subject.link,
                "run": alert.run,
            }
            for alert in self.alerts
        ]
        return {"status": str(self.status), "host": socket.gethostname(), "tasks": tasks}

    def _paragraph(self, alert: Alert) -> str:
        lines = [f"{alert.subject}: {alert.detail}" if len(self.alerts) > 1 else alert.detail]
        if alert.failures > 1:
            lines.append(f"failed {alert.failures} times since {_format_time(alert.since)}")
        if alert.subject.link:
            lines.append(alert.subject.link)
        return "\n".join([*lines, f"log: {alert.run}"])


def _format_time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat("T", "seconds")
