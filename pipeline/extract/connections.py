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
from urllib3.connection import HTTPConnection, HTTPSConnection


def limited_session(header_seconds: float) -> requests.Session:
    """Returns a session whose requests raise a ReadTimeout if all headers do not arrive within that time."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _LimitedAdapter(header_seconds))
    return session


class _LimitedAdapter(HTTPAdapter):
    """Makes such connections, direct or through a proxy."""

    def __init__(self, header_seconds: float):
        self._pools = {
            "http": _limited_pool(urllib3.HTTPConnectionPool, HTTPConnection, header_seconds),
            "https": _limited_pool(urllib3.HTTPSConnectionPool, HTTPSConnection, header_seconds),
        }
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager: Any = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _limited_pool(pool: type[urllib3.HTTPConnectionPool], connection: Any, seconds: float) -> Any:
    class Connection(connection):  # type: ignore[misc]
        def getresponse(self) -> Any:
            self._is_shut_down, response = False, None
            timer = threading.Timer(seconds, self._shut_down)
            timer.daemon = True
            timer.start()
            try:
                response = super().getresponse()
            except (OSError, HTTPException):
                if not self._is_shut_down:
                    raise
            finally:
                timer.cancel()
            if self._is_shut_down:  # headers that are cut off may be taken for complete ones
                raise TimeoutError(f"no complete response headers within {seconds:g} s")
            return response

        def _shut_down(self) -> None:
            self._is_shut_down = True
            with contextlib.suppress(OSError, AttributeError):  # the socket may have been closed in the meantime
                self.sock.shutdown(socket.SHUT_RDWR)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
