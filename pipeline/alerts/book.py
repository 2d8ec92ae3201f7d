"""The book of alerts: a small file that every process of every run keeps up, so that nothing is told twice."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.alerts.messages import Message
from pipeline.alerts.news import News, Status, Subject
from pipeline.files import locked, replace_file

Channels = Mapping[str, Callable[[Message], None]]


class AlertBook:
    """Which tasks fail, and who has been told. Safe for several processes; OSError is the worst they raise.

    A burst is a task's failures until it succeeds, or until none has come for `burst_seconds`. News is told at the end
    of its run, or during a run that lasts longer than `gather_seconds`, together with what has come meanwhile.
    """

    def __init__(self, file: Path, gather_seconds: float, burst_seconds: float):
        self.file = file
        self._gather_seconds = gather_seconds
        self._burst_seconds = burst_seconds

    def is_empty(self) -> bool:
        """Whether nothing has failed lately and nothing is owed; costs next to nothing."""
        return not self.file.exists()

    def failed(self, subject: Subject, detail: str, run: str, channels: Channels) -> list[str]:
        """Notes a failure, which is owed to channels that do not know of the burst.

        Where it cannot be noted, as when the disk is full, it is told at once: rather too often than not at all.
        Returns a line for each message that could not be delivered.
        """
        try:
            with self._opened() as book:
                news = book.setdefault(subject.task_id, News(subject, Status.FAILED, detail, run, []))
                news.fails_again(detail, run, list(channels))
            return []
        except OSError:
            message = Message(Status.FAILED, [News(subject, Status.FAILED, detail, run, [], failures=1)])
            problems = {name: _send(send, message) for name, send in channels.items()}
            return [f"{name}: {problem}" for name, problem in problems.items() if problem]

    def succeeded(self, subject: Subject, detail: str, run: str, channels: Channels) -> None:
        """Notes a success: the end of a burst for those who know of one, and news to the channels given."""
        if self.is_empty() and not channels:
            return
        with self._opened() as book:
            if (news := book.get(subject.task_id)) and news.status is Status.FAILED:
                news.recovers(detail, run)
            if channels and not (news and news.owed):
                book[subject.task_id] = News(subject, Status.SUCCEEDED, detail, run, list(channels))

    def deliver(self, channels: Channels, ended_run: str | None = None) -> list[str]:
        """Tells each channel what it is owed: the news of the run that ends, and what has waited long enough.

        Returns a line for each message that could not be delivered; it remains owed.
        """
        if self.is_empty():
            return []
        problems = list[str]()
        with self._opened() as book:
            due = [news for news in book.values() if news.owed and self._is_due(news, ended_run)]
            for news in due:
                news.tried = time.time()
            for name, send in channels.items():
                for status in Status:
                    group = [news for news in due if news.status is status and name in news.owed]
                    if problem := _send(send, Message(status, group)) if group else None:
                        problems.append(f"{name}: {problem}")
                    else:
                        for news in group:
                            news.told(name)
        return problems

    def _is_due(self, news: News, ended_run: str | None) -> bool:
        return news.run == ended_run or time.time() - news.tried >= self._gather_seconds

    @contextlib.contextmanager
    def _opened(self) -> Iterator[dict[str, News]]:
        """The book, for one process at a time; what is settled or too old to matter is left out when it is closed."""
        with locked(self.file):
            oldest = time.time() - self._burst_seconds
            book = {task_id: news for task_id, news in self._read().items() if news.latest >= oldest}
            yield book
            kept = [asdict(news) for news in book.values() if news.owed or news.status is Status.FAILED]
            if kept:
                replace_file(self.file, json.dumps(kept, indent=2).encode() + b"\n")
            else:
                self.file.unlink(missing_ok=True)

    def _read(self) -> dict[str, News]:
        try:
            entries = json.loads(self.file.read_text())
            news = [News(**e | {"subject": Subject(**e["subject"]), "status": Status(e["status"])}) for e in entries]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return {}  # never written, or by another version: at worst something is told again
        return {each.subject.task_id: each for each in news}


def _send(send: Callable[[Message], None], message: Message) -> str | None:
    try:
        send(message)
    except Exception as error:  # whatever a channel's library raises: an alert never fails what it is about
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None
