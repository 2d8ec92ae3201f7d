"""Access control: rejects requests from other web sites, and checks the token that changes require."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Guard:
    """Rejects requests that pages of other sites make (CSRF), and requests with an unknown Host (DNS rebinding).

    `hosts` are the server's names besides the loopback names. If `exposed`, other machines can reach the server, and
    any IP address is accepted, as is any name without a dot, because such names cannot be registered.
    """

    token: str
    token_file: Path
    hosts: frozenset[str]
    exposed: bool

    def refusal(self, request: HTTPServerRequest) -> str | None:
        """Returns the reason for rejecting the request, in one line, or None."""
        if not self._is_own_name(host := _host_name(request.host)):
            return f"Host {host or 'unnamed'} is not this server; add it to [ui] hosts if it is"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            return f"requests from pages of {origin} are refused"
        return self._refusal_without_origin(request) if origin is None else None

    def allows_change(self, request: HTTPServerRequest) -> bool:
        """Returns whether the request contains the token."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        return hmac.compare_digest(given.encode(), self.token.encode())

    def save_token(self) -> None:
        """Writes the token to its file, readable by this user alone, unless there is one."""
        if not self.token_file.exists():
            self.token_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as created:
                created.write(self.token + "\n")

    def may_show_token(self, request: HTTPServerRequest) -> bool:
        """Returns whether the request comes from this machine, and not through a proxy."""
        remote = ipaddress.ip_address((request.remote_ip or "0.0.0.0").partition("%")[0])
        return remote.is_loopback and not self.exposed and "X-Forwarded-For" not in request.headers

    def _is_own_name(self, name: str) -> bool:
        if name in _LOOPBACK_NAMES or name in self.hosts:
            return True
        return self.exposed and (_is_address(name) or (bool(name) and "." not in name))

    @staticmethod
    def _refusal_without_origin(request: HTTPServerRequest) -> str | None:
        """Checks other headers, as browsers send no Origin with a plain GET, which can change state in Luigi's API."""
        headers = request.headers
        site, is_api = headers.get("Sec-Fetch-Site"), request.path.startswith("/api/")
        if site in ("cross-site", "same-site"):
            is_link = headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
            return None if is_link and not is_api else "requests from pages of other sites are refused"
        by_script = headers.get("X-Requested-With") == "XMLHttpRequest"
        if is_api and site is None and "Mozilla" in headers.get("User-Agent", "") and not by_script:
            return "the browser does not say which page sent the request"
        return None


def new_guard(address: str, exposed: bool, hosts: list[str], folder: Path) -> Guard:
    """Returns the guard of a server that listens on `address`; keeps the token in a private file in `folder`."""
    own = {address, socket.gethostname(), socket.getfqdn()} if exposed else {address}
    file = folder / "token"
    known = file.read_text().strip() if file.exists() else ""
    if not known:
        file.unlink(missing_ok=True)
    names = frozenset(name.lower() for name in [*own, *hosts])
    guard = Guard(known or secrets.token_urlsafe(24), file, names, exposed)
    guard.save_token()
    return guard


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
