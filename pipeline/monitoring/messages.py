"""What a message says: for people in its text, for programs in its fields."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.monitoring.alert import Alert, Status

_LISTED = 20


@dataclass(frozen=True)
class Message:
    """News of the same status, one or many, told in one message."""

    status: Status
    news: Sequence[Alert]

    @property
    def subject(self) -> str:
        """One line: what has become of which task, or of how many."""
        what = str(self.news[0].subject) if len(self.news) == 1 else f"{len(self.news)} tasks"
        return f"{what} {self.status} on {socket.gethostname()}"

    @property
    def text(self) -> str:
        """The subject, and a paragraph a task."""
        paragraphs = [self._paragraph(news) for news in self.news[:_LISTED]]
        if more := len(self.news) - _LISTED:
            paragraphs += [f"and {more} more"] * (more > 0)
        return "\n\n".join([self.subject, *paragraphs]) + "\n"

    def fields(self) -> dict[str, object]:
        """The same as JSON holds it, all tasks included."""
        return {
            "status": str(self.status),
            "host": socket.gethostname(),
            "tasks": [
                {
                    "task": news.subject.family,
                    "parameters": news.subject.parameters,
                    "detail": news.detail,
                    "failures": news.failures,
                    "since": _iso(news.since),
                    "link": news.subject.link,
                    "run": news.run,
                }
                for news in self.news
            ],
        }

    def _paragraph(self, news: Alert) -> str:
        lines = [f"{news.subject}: {news.detail}" if len(self.news) > 1 else news.detail]
        if news.failures > 1:
            lines.append(f"failed {news.failures} times since {_iso(news.since)}")
        if news.subject.link:
            lines.append(news.subject.link)
        lines.append(f"log: {news.run}")
        return "\n".join(lines)


def _iso(time: float) -> str:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat("T", "seconds")
