"""The requests to both emulators, and the faults that tests inject into them: both emulators share one `Wire`."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Incident:
    """What to do with the next requests that match `request`, a regular expression for "METHOD /path?query body".

    Only requests to BigQuery are matched with their body. If only `action` is set, the request is served as usual after
    it. "RUN job_id" stands for a BigQuery job that is about to run, and "STEP job_id statement" for a statement of a
    script: it runs after `action`, and fails if a `status` is set.
    """

    request: str
    status: int | None = None  # respond with this error instead of serving the request
    reason: str = "backendError"
    message: str = "injected by the test"
    headers: dict[str, str] = field(default_factory=dict)  # of the error; only to requests to Cloud Storage
    response_lost: bool = False  # serve the request, then close the connection without a response
    request_dropped: bool = False  # close the connection without serving the request
    action: Callable[[], object] = lambda: None  # called before the request is served or refused
    skip: int = 0  # how many matching requests are served as usual first
    times: int = 1  # how many matching requests are affected

    def error_body(self) -> dict[str, object]:
        """The body of the error response, as Google's REST APIs write it."""
        error = {"domain": "global", "reason": self.reason, "message": self.message}
        return {"error": {"code": self.status, "message": self.message, "status": self.reason, "errors": [error]}}


@dataclass
class Wire:
    """The requests so far as "METHOD /path?query body", and the incidents that have not happened yet."""

    requests: list[str] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def inject(self, request: str, **incident: object) -> None:
        """Adds an incident for the next request that matches."""
        self.incidents.append(Incident(request, **incident))  # type: ignore[arg-type]

    def seen(self, pattern: str) -> list[str]:
        """The requests so far that match the regular expression."""
        return [request for request in self.requests if re.search(pattern, request, re.DOTALL)]

    def receive(self, request: str) -> Incident | None:
        """Records a request; returns the incident that affects it, if any, after its action."""
        with self._lock:
            self.requests.append(request)
            incident = self._next_incident(request)
        if incident:
            incident.action()
        return incident

    def _next_incident(self, request: str) -> Incident | None:
        for incident in self.incidents:
            if not re.search(incident.request, request, re.DOTALL):
                continue
            if incident.skip:
                incident.skip -= 1
                continue
            incident.times -= 1
            if not incident.times:
                self.incidents.remove(incident)
            return incident
        return None
