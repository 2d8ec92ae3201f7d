"""A release site to be let down by: a real HTTP server on a free port, told what to do wrong at which request."""

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
    """What is odd about one answer; with no field set, nothing is."""

    status: int | None = None  # answer this, with an empty body
    headers: dict[str, str | None] = field(default_factory=dict)  # in the place of the right ones; None: left out
    hang_up: bool = False  # close the connection without an answer
    cut_after: int | None = None  # close the connection after so many bytes of the body
    drip_head: float | None = None  # send the head a byte at a time, so many seconds apart
    continues: int = 0  # send so many `100 Continue` before the answer, a hundredth of a second apart
    drip_body: float | None = None  # send the body a byte at a time, so many seconds apart
    stall_after: int | None = None  # send so many bytes of the body, then nothing, and keep the connection open
    hold: bool = False  # wait for `HttpSource.gate` before answering
    chunked: bool = False  # send the body in chunks, without Content-Length
    range_sent: tuple[int, int] | None = None  # answer 206 with these bytes, first and last, whatever was asked for


FINE = Fault()


@dataclass(frozen=True)
class Request:
    """A request as it came in."""

    path: str
    headers: dict[str, str]
    at: float

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


@dataclass
class HttpSource:
    """The site: what it has, what it can do, what goes wrong with which request, and what was asked of it."""

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)  # one for each coming request, in order
    afterwards: Fault = FINE  # for every request after those
    etag: str | None = '"first"'
    last_modified: str | None = None
    absent: int = 404  # the status of what it has not; TLC's site answers 403
    knows_ranges: bool = True
    knows_if_range: bool = True
    requests: list[Request] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ranges(self) -> list[str | None]:
        """What each request so far asked for: `bytes=100-`, or None for the whole file."""
        return [request.range for request in self.requests]

    @property
    def gaps(self) -> list[float]:
        """The seconds between each request and the next."""
        times = [request.at for request in self.requests]
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    def next_fault(self) -> Fault:
        return self.faults.pop(0) if self.faults else self.afterwards

    def validators(self) -> dict[str, str]:
        pairs = (("ETag", self.etag), ("Last-Modified", self.last_modified))
        return {name: value for name, value in pairs if value}


class Handler(BaseHTTPRequestHandler):
    """Answers GET as RFC 9110 wants it, but for the fault that it is told."""

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
        if fault.drip_head is not None:
            self.drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000, fault.drip_head)
            return
        body = source.files.get(self.path)
        if fault.status or body is None:
            self.head(fault.status or source.absent, {"Content-Length": "0"}, fault)
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

    def drip(self, data: bytes, seconds: float) -> None:
        with contextlib.suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                if self.source.closing.wait(seconds):
                    return

    def asked_range(self, size: int) -> tuple[int, int]:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if_range = self.headers.get("If-Range")
        changed = if_range not in (None, *self.source.validators().values())
        if not asked or not self.source.knows_ranges or (changed and self.source.knows_if_range):
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
        if fault.drip_body is not None:
            self.drip(sent, fault.drip_body)
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
    """A site that is up until the block ends."""

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
