"""The book of alerts: a small file that every process of every run keeps up, so that nothing is told twice."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.files import locked, replace_file
from pipeline.monitoring.alert import Alert, Status, Subject
from pipeline.monitoring.messages import Message

Channels = Mapping[str, Callable[[Message], None]]


class AlertState:
    """Which tasks fail, and who has been notified. Safe for several processes; OSError is the worst they raise.

    A burst is a task's failures until it succeeds, or until none has come for `burst_seconds`. An alert is sent at
    the end of its run, or during a run that lasts longer than `gather_seconds`, together with what has come meanwhile.
    """

    def __init__(self, file: Path, gather_seconds: float, burst_seconds: float):
        self.file = file
        self._gather_seconds = gather_seconds
        self._burst_seconds = burst_seconds

    def is_empty(self) -> bool:
        """Whether nothing has failed lately and nothing is pending; costs next to nothing."""
        return not self.file.exists()

    def failed(self, subject: Subject, detail: str, run: str, channels: Channels) -> list[str]:
        """Notes a failure, which is pending to channels that do not know of the burst.

        Where it cannot be noted, as when the disk is full, it is told at once: rather too often than not at all.
        Returns a line for each message that could not be delivered.
        """
        try:
            with self._opened() as book:
                alert = book.setdefault(subject.task_id, Alert(subject, Status.FAILED, detail, run, []))
                alert.fails_again(detail, run, list(channels))
            return []
        except OSError:
            message = Message(Status.FAILED, [Alert(subject, Status.FAILED, detail, run, [], failures=1)])
            problems = {name: _send(send, message) for name, send in channels.items()}
            return [f"{name}: {problem}" for name, problem in problems.items() if problem]

    def succeeded(self, subject: Subject, detail: str, run: str, channels: Channels) -> None:
        """Notes a success: the end of a burst for those who know of one, and alert to the channels given."""
        if self.is_empty() and not channels:
            return
        with self._opened() as book:
            if (alert := book.get(subject.task_id)) and alert.status is Status.FAILED:
                alert.recovers(detail, run)
            if channels and not (alert and alert.pending):
                book[subject.task_id] = Alert(subject, Status.SUCCEEDED, detail, run, list(channels))

    def deliver(self, channels: Channels, ended_run: str | None = None) -> list[str]:
        """Tells each channel what it is pending: the alert of the run that ends, and what has waited long enough.

        Returns a line for each message that could not be delivered; it remains pending.
        """
        if self.is_empty():
            return []
        problems = list[str]()
        with self._opened() as book:
            due = [alert for alert in book.values() if alert.pending and self._is_due(alert, ended_run)]
            for alert in due:
                alert.tried = time.time()
            for name, send in channels.items():
                for status in Status:
                    group = [alert for alert in due if alert.status is status and name in alert.pending]
                    if problem := _send(send, Message(status, group)) if group else None:
                        problems.append(f"{name}: {problem}")
                    else:
                        for alert in group:
                            alert.delivered_to(name)
        return problems

    def _is_due(self, alert: Alert, ended_run: str | None) -> bool:
        return alert.run == ended_run or time.time() - alert.tried >= self._gather_seconds

    @contextlib.contextmanager
    def _opened(self) -> Iterator[dict[str, Alert]]:
        """The book, for one process at a time; what is settled or too old to matter is left out when it is closed."""
        with locked(self.file):
            oldest = time.time() - self._burst_seconds
            book = {task_id: alert for task_id, alert in self._read().items() if alert.latest >= oldest}
            yield book
            kept = [asdict(alert) for alert in book.values() if alert.pending or alert.status is Status.FAILED]
            if kept:
                replace_file(self.file, json.dumps(kept, indent=2).encode() + b"\n")
            else:
                self.file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Alert]:
        try:
            entries = json.loads(self.file.read_text())
            alert = [Alert(**e | {"subject": Subject(**e["subject"]), "status": Status(e["status"])}) for e in entries]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return {}  # never written, or by another version: at worst something is told again
        return {each.subject.task_id: each for each in alert}


def _send(send: Callable[[Message], None], message: Message) -> str | None:
    try:
        send(message)
    except Exception as error:  # whatever a channel's library raises: an alert never fails what it is about
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None
