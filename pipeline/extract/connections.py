"""HTTP connections that limit the time until a response's headers are complete.

The socket's timeout is for the next byte, so it never ends a response of which a byte arrives now and then.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from http.client import HTTPException
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter


class LimitedSession(requests.Session):
    """A session whose requests raise a ReadTimeout if all headers do not arrive within that time."""

    def __init__(self, header_seconds: float, retries: urllib3.Retry | int = 0):
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _LimitedAdapter(header_seconds, retries))


class _LimitedAdapter(HTTPAdapter):
    """Makes such connections, direct or through a proxy."""

    def __init__(self, header_seconds: float, retries: urllib3.Retry | int):
        super().__init__(max_retries=retries)
        self._header_seconds = header_seconds

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        limits = {"header_seconds": self._header_seconds}
        pool.ConnectionCls = type("Connection", (_LimitedResponse, type(pool).ConnectionCls), limits)
        return pool


class _LimitedResponse:
    """The part of a connection that waits for a response's headers; at most for `header_seconds`."""

    header_seconds: float
    sock: socket.socket

    def getresponse(self) -> Any:
        self._is_shut_down, response = False, None
        timer = threading.Timer(self.header_seconds, self._shut_down)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()  # type: ignore[misc]
        except (OSError, HTTPException):
            if not self._is_shut_down:
                raise
        finally:
            timer.cancel()
        if self._is_shut_down:  # headers that are cut off may be taken for complete ones
            raise TimeoutError(f"no complete response headers within {self.header_seconds:g} s")
        return response

    def _shut_down(self) -> None:
        self._is_shut_down = True
        with contextlib.suppress(OSError, AttributeError):  # the socket may have been closed in the meantime
            self.sock.shutdown(socket.SHUT_RDWR)
