"""What goes over the wire to both emulators, and what goes wrong there: one `Wire` for the two of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Incident:
    """Something that happens to the requests which match `request`, a pattern of "METHOD /path?query body".

    The body is told of BigQuery's only. With nothing set but `meanwhile`, the request is then served as ever. "RUN id"
    stands for a job of BigQuery's that is about to run: it waits for `meanwhile`, and fails with a `status`.
    """

    request: str
    status: int | None = None  # answer this and do nothing
    reason: str = "backendError"
    message: str = "the test has it so"
    lost: bool = False  # do the work, and hang up without an answer
    dropped: bool = False  # hang up at once
    meanwhile: Callable[[], object] = lambda: None  # called before anything else
    after: int = 0  # how many such requests to leave alone first
    times: int = 1

    def answer(self) -> dict[str, object]:
        """The error as Google's REST APIs write it."""
        error = {"domain": "global", "reason": self.reason, "message": self.message}
        return {"error": {"code": self.status, "message": self.message, "status": self.reason, "errors": [error]}}


@dataclass
class Wire:
    """The requests so far as "METHOD /path?query body", and the incidents that are still to come."""

    requests: list[str] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)

    def happens(self, request: str, **what: object) -> None:
        """Lets something happen to the next such request."""
        self.incidents.append(Incident(request, **what))  # type: ignore[arg-type]

    def seen(self, pattern: str) -> list[str]:
        """The requests so far that match."""
        return [request for request in self.requests if re.search(pattern, request, re.DOTALL)]

    def receive(self, request: str) -> Incident | None:
        """Notes a request; returns what happens to it."""
        self.requests.append(request)
        for incident in self.incidents:
            if not re.search(incident.request, request, re.DOTALL):
                continue
            if incident.after:
                incident.after -= 1
                continue
            incident.times -= 1
            if not incident.times:
                self.incidents.remove(incident)
            incident.meanwhile()
            return incident
        return None
