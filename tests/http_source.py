"""A release site with faults: a real HTTP server on a free port, whose responses a test can make fail."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """How one response differs from a correct one; it is correct if no field is set."""

    status: int | None = None  # respond with this status and an empty body
    headers: dict[str, str | None] = field(default_factory=dict)  # instead of the correct headers; None omits a header
    hang_up: bool = False  # close the connection without a response
    cut_after: int | None = None  # close the connection after this many bytes of the body
    trickle_head: float | None = None  # send the head one byte at a time, this many seconds apart
    continues: int = 0  # send this many `100 Continue` before the response, 0.01 s apart
    trickle_body: float | None = None  # send the body one byte at a time, this many seconds apart
    stall_after: int | None = None  # send this many bytes of the body, then nothing, and keep the connection open
    hold: bool = False  # wait for `HttpSource.gate` before responding
    chunked: bool = False  # send the body in chunks, without Content-Length
    range_sent: tuple[int, int] | None = None  # send 206 with these bytes (first, last), whatever was requested


FINE = Fault()


@dataclass(frozen=True)
class Request:
    """A request as it was received."""

    path: str
    headers: dict[str, str]
    at: float

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


@dataclass
class HttpSource:
    """The site: its files, what it supports, the faults of its next responses, and the requests that it received."""

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)  # one for each of the next requests, in order
    later_fault: Fault = FINE  # for all requests after those
    etag: str | None = '"first"'
    last_modified: str | None = None
    missing_status: int = 404  # the status for a file that does not exist; TLC's site sends 403
    supports_ranges: bool = True
    supports_if_range: bool = True
    requests: list[Request] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ranges(self) -> list[str | None]:
        """The range of each request so far, such as `bytes=100-`, or None for the whole file."""
        return [request.range for request in self.requests]

    @property
    def gaps(self) -> list[float]:
        """The seconds between each request and the next."""
        times = [request.at for request in self.requests]
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    def next_fault(self) -> Fault:
        return self.faults.pop(0) if self.faults else self.later_fault

    def validators(self) -> dict[str, str]:
        pairs = (("ETag", self.etag), ("Last-Modified", self.last_modified))
        return {name: value for name, value in pairs if value}


class Handler(BaseHTTPRequestHandler):
    """Responds to GET as RFC 9110 specifies, except for the fault of the request."""

    protocol_version = "HTTP/1.1"
    source: HttpSource

    def do_GET(self) -> None:
        source, self.close_connection = self.source, True
        source.requests.append(Request(self.path, dict(self.headers.items()), time.monotonic()))
        fault = source.next_fault()
        if fault.hold:
            source.gate.wait(20)
        if fault.hang_up:
            return
        for _ in range(fault.continues):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.01)
        if fault.trickle_head is not None:
            self.trickle(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000, fault.trickle_head)
            return
        body = source.files.get(self.path)
        if fault.status or body is None:
            self.head(fault.status or source.missing_status, {"Content-Length": "0"}, fault)
            return
        first, last = fault.range_sent or self.asked_range(len(body))
        if first and first >= len(body):
            self.head(416, {"Content-Length": "0", "Content-Range": f"bytes */{len(body)}"}, fault)
            return
        headers = source.validators()
        if first or last + 1 < len(body) or fault.range_sent:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        headers |= {"Transfer-Encoding": "chunked"} if fault.chunked else {"Content-Length": str(last + 1 - first)}
        self.head(206 if "Content-Range" in headers else 200, headers, fault)
        self.send_body(body[first : last + 1], fault)

    def trickle(self, data: bytes, seconds: float) -> None:
        with contextlib.suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                if self.source.closing.wait(seconds):
                    return

    def asked_range(self, size: int) -> tuple[int, int]:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if_range = self.headers.get("If-Range")
        changed = if_range not in (None, *self.source.validators().values())
        if not asked or not self.source.supports_ranges or (changed and self.source.supports_if_range):
            return 0, size - 1
        return int(asked[1]), min(int(asked[2] or size - 1), size - 1)

    def head(self, status: int, headers: dict[str, str], fault: Fault) -> None:
        self.send_response(status)
        for name, value in ({"Connection": "close"} | headers | fault.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def send_body(self, body: bytes, fault: Fault) -> None:
        limits = [limit for limit in (fault.cut_after, fault.stall_after) if limit is not None]
        sent = body[: min(limits)] if limits else body
        if fault.trickle_body is not None:
            self.trickle(sent, fault.trickle_body)
            return
        self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent) if fault.chunked else sent)
        if fault.chunked and not limits:
            self.wfile.write(b"0\r\n\r\n")
        if fault.stall_after is not None:
            self.wfile.flush()
            self.source.closing.wait(20)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_source() -> Iterator[HttpSource]:
    """Runs a site until the block ends."""

    class OwnHandler(Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), OwnHandler) as server:
        server.daemon_threads = True
        source = OwnHandler.source = HttpSource(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield source
        finally:
            source.closing.set()
            source.gate.set()
            server.shutdown()
            thread.join()
