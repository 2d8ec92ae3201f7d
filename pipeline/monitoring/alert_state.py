"""Stores the alert of each failing task in a file that all runs share, and decides when alerts are sent."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.files import locked, replace_file
from pipeline.monitoring.alerts import Alert, Message, Status, Subject
from pipeline.monitoring.channels import Channel, Channels

_SEND_SECONDS = 20.0
_PENDING_SECONDS = 30 * 86_400  # after which a channel counts as removed that has not taken an alert
_CLAIM_SECONDS = 150.0  # longer than sending a message of each status to each of two channels


class AlertState:
    """The alerts of all tasks. Safe for concurrent processes; methods only raise OSError.

    A burst is the failures of a task until it succeeds, or until there is no failure for `burst_seconds`. Alerts are
    collected and sent at the end of the run, or after `gather_seconds` in a longer run. The state is not locked while
    messages are sent, so that a channel that hangs delays only the process that sends.
    """

    def __init__(self, file: Path, gather_seconds: float, burst_seconds: float):
        self.file = file
        self._gather_seconds = gather_seconds
        self._burst_seconds = burst_seconds

    def is_empty(self) -> bool:
        """Returns whether no task fails and nothing is pending; fast."""
        return not self.file.exists()

    def failed(self, subject: Subject, detail: str, run: str, channels: Channels) -> list[str]:
        """Records a failure; it is pending for channels that were not notified of the burst yet.

        If it cannot be recorded, for example because the disk is full, it is sent immediately, possibly more than once.
        Returns a line for each message that could not be delivered.
        """
        alert = Alert(subject, Status.FAILED, detail, run, [])
        try:
            with self._locked_alerts() as alerts:
                if (known := alerts.get(subject.task_id)) is None or self._has_ended(known):
                    alerts[subject.task_id] = alert
                alerts[subject.task_id].fail(detail, run, list(channels))
            return []
        except OSError:
            alert.failures = 1
            problems = {name: _send(send, Message(Status.FAILED, [alert])) for name, send in channels.items()}
            return [f"{name}: {problem}" for name, problem in problems.items() if problem]

    def succeeded(self, subject: Subject, detail: str, run: str, channels: Channels) -> None:
        """Records a success: ends a burst, and alerts the given channels."""
        if self.is_empty() and not channels:
            return
        with self._locked_alerts() as alerts:
            if (alert := alerts.get(subject.task_id)) and alert.status is Status.FAILED:
                alert.recover(detail, run)
            if channels and not (alert and alert.pending):
                alerts[subject.task_id] = Alert(subject, Status.SUCCEEDED, detail, run, list(channels))

    def republished(self, subject: Subject, detail: str, run: str, channels: Channels) -> None:
        """Alerts the given channels that the month of a task was published again since it was loaded."""
        if channels:
            with self._locked_alerts() as alerts:
                key = f"{subject.task_id} {Status.REPUBLISHED}"  # in addition to other alerts of the task
                alerts[key] = Alert(replace(subject, task_id=key), Status.REPUBLISHED, detail, run, list(channels))

    def deliver(self, channels: Channels, ended_run: str | None = None) -> list[str]:
        """Sends pending alerts to each channel: those of the run that ends, and those older than `gather_seconds`.

        Returns a line for each message that could not be delivered and remains pending.
        """
        if self.is_empty() or not (claimed := self._claim(channels, ended_run)):
            return []
        problems, delivered = list[str](), list[tuple[str, Alert]]()
        for name, send in channels.items():
            for status in Status:
                group = [alert for alert in claimed if alert.status is status and name in alert.pending]
                if problem := _send(send, Message(status, group)) if group else None:
                    problems.append(f"{name}: {problem}")
                else:
                    delivered += [(name, alert) for alert in group]
        with self._locked_alerts() as alerts:
            for name, sent in delivered:
                if alert := alerts.get(sent.subject.task_id):
                    alert.delivered(name, sent.status)
            for sent in claimed:
                if alert := alerts.get(sent.subject.task_id):
                    alert.claimed_until = 0.0
        return problems

    def _claim(self, channels: Channels, ended_run: str | None) -> list[Alert]:
        """Returns copies of the alerts that are due, and keeps other processes from sending them for a while."""
        now, claimed = time.time(), list[Alert]()
        with self._locked_alerts() as alerts:
            open_alerts = [alert for alert in alerts.values() if channels.keys() & set(alert.pending)]
            waited = {alert.run for alert in open_alerts if now - alert.attempted >= self._gather_seconds}
            for alert in open_alerts:  # of a run in one message, however long each has waited
                if alert.run in {ended_run, *waited} and alert.claimed_until < now:
                    alert.attempted, alert.claimed_until = now, now + _CLAIM_SECONDS
                    claimed.append(copy.deepcopy(alert))
        return claimed

    def _has_ended(self, alert: Alert) -> bool:
        """Returns whether the alert's task was quiet for so long that a failure would start a new burst."""
        return alert.latest < time.time() - self._burst_seconds

    @contextlib.contextmanager
    def _locked_alerts(self) -> Iterator[dict[str, Alert]]:
        """Yields the alerts by task under a lock; at the end, saves those that are pending, failed or claimed."""
        with locked(self.file):
            oldest = time.time() - _PENDING_SECONDS
            alerts = {
                key: alert
                for key, alert in self._read().items()
                if not self._has_ended(alert) or (alert.pending and alert.latest > oldest)
            }
            yield alerts
            kept = [
                asdict(alert)
                for alert in alerts.values()
                if alert.pending or alert.status is Status.FAILED or alert.claimed_until > time.time()
            ]
            if kept:
                replace_file(self.file, json.dumps(kept, indent=2).encode() + b"\n")
            else:
                self.file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Alert]:
        try:
            entries = json.loads(self.file.read_text())
            alerts = [Alert(**e | {"subject": Subject(**e["subject"]), "status": Status(e["status"])}) for e in entries]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return {}  # missing, or written by another version; at worst, an alert is sent again
        return {alert.subject.task_id: alert for alert in alerts}


def _send(send: Channel, message: Message) -> str | None:
    """Sends the message with a timeout; returns the error, or None if it was accepted."""
    problems = [f"no answer within {_SEND_SECONDS:.0f} s"]

    def attempt() -> None:
        try:
            send(message)
            problems.clear()
        except Exception as error:  # any exception of a channel's library: an alert never fails a task
            problems[:] = [str(error).splitlines()[0] if str(error) else type(error).__name__]

    sender = threading.Thread(target=attempt, daemon=True)
    sender.start()
    sender.join(_SEND_SECONDS)
    return next(iter(problems), None)
