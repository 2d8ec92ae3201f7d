"""Shuts down connections that are too slow; socket timeouts do not apply if a byte arrives now and then."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection


class ConnectionWatch:
    """Monitors the connections of one session from a separate thread, until the block ends.

    All headers of a response must arrive within `answer_seconds`. After that, at least `minimum_rate` bytes per second
    must arrive, averaged over `answer_seconds`. Otherwise the connection is shut down and `reason` says why.
    """

    def __init__(self, answer_seconds: float, minimum_rate: float):
        self._seconds, self._rate = answer_seconds, minimum_rate
        self._lock, self._end = threading.Lock(), threading.Event()
        self._socket: socket.socket | None = None
        self._since, self._received, self._is_body = time.monotonic(), 0, False
        self._thread = threading.Thread(target=self._run, name="connection-watch", daemon=True)
        self.reason = ""

    def session(self) -> requests.Session:
        """Returns a session whose connections are monitored."""
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _WatchedAdapter(self))
        return session

    def __enter__(self) -> ConnectionWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def request_sent(self, connection_socket: socket.socket | None) -> None:
        """Records that a request was sent."""
        self._start_phase(connection_socket, is_body=False)

    def headers_received(self) -> None:
        """Records that the response's headers have arrived."""
        self._start_phase(self._socket, is_body=True)

    def bytes_received(self, size: int) -> None:
        """Records that bytes of the body have arrived."""
        with self._lock:
            self._received += size

    def _start_phase(self, connection_socket: socket.socket | None, is_body: bool) -> None:
        with self._lock:
            self._socket, self._is_body = connection_socket, is_body
            self._since, self._received = time.monotonic(), 0

    def _run(self) -> None:
        while not self._end.wait(min(0.5, self._seconds / 4)):
            with self._lock:
                if self._socket is None or (waited := time.monotonic() - self._since) < self._seconds:
                    continue
                if not self._is_body:
                    self._shut_down(f"no complete response headers within {self._seconds:g} s")
                elif self._received < self._rate * waited:
                    rate = self._received / waited
                    self._shut_down(f"{rate:,.0f} bytes per second, below [source] minimum_rate {self._rate:,.0f}")
                self._since, self._received = time.monotonic(), 0

    def _shut_down(self, reason: str) -> None:
        self.reason = reason
        with contextlib.suppress(OSError):
            assert self._socket is not None
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket = None


class _WatchedAdapter(HTTPAdapter):
    """Creates connections, direct or through a proxy, that report their progress to a watch."""

    def __init__(self, watch: ConnectionWatch):
        self._pools = _watched_pools(watch)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager: Any = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _watched_pools(watch: ConnectionWatch) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    class WatchedConnection(HTTPConnection):
        def getresponse(self) -> Any:
            watch.request_sent(self.sock)
            response = super().getresponse()
            watch.headers_received()
            return response

    class WatchedSecureConnection(HTTPSConnection):
        def getresponse(self) -> Any:
            watch.request_sent(self.sock)
            response = super().getresponse()
            watch.headers_received()
            return response

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = WatchedConnection

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = WatchedSecureConnection

    return {"http": Pool, "https": SecurePool}
