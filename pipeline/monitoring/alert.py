"""What there is to tell of a task, and to whom it is still pending."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """What became of a task."""

    FAILED = "failed"
    RECOVERED = "recovered"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True)
class Subject:
    """A task as an alert names it; its parameters are public ones."""

    task_id: str
    family: str
    parameters: dict[str, str]
    link: str = ""

    def __str__(self) -> str:
        return f"{self.family}({', '.join(f'{name}={value}' for name, value in self.parameters.items())})"


@dataclass
class Alert:
    """The latest news of a task: an open failure, or what is still pending to a channel. Times are Unix seconds.

    `pending` are the channels to tell, `notified` those that know of a failure and hence want to hear of its end.
    `run` is the run it is from, whose end is when it is told.
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
    tried: float = field(default_factory=time.time)

    def fails_again(self, detail: str, run: str, channels: list[str]) -> None:
        """Takes up another failure of the same burst: only who has not been told is pending anything."""
        knows = self.notified + (self.pending if self.status is Status.RECOVERED else [])
        self.notified = knows
        self.pending = [name for name in channels if name not in knows]
        self.status, self.detail, self.run = Status.FAILED, detail, run
        self.failures, self.latest = self.failures + 1, time.time()

    def recovers(self, detail: str, run: str) -> None:
        """Ends the burst: who was told of it is pending the recovery, nobody else is pending anything."""
        self.pending, self.notified = self.notified, []
        self.status, self.detail, self.run = Status.RECOVERED, detail, run
        self.latest = time.time()

    def delivered_to(self, channel: str) -> None:
        """Notes that a channel has accepted it."""
        self.pending.remove(channel)
        if self.status is Status.FAILED:
            self.notified.append(channel)
