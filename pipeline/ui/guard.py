"""Who may ask the server what: requests of other web sites are refused, changes need a token."""

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
    """Refuses what a web page of another site makes a browser ask, and what is asked under a foreign name.

    `hosts` are the names that the server goes by besides those of loopback. `exposed`: other machines reach it, by any
    of its addresses, or by a name without a dot, which nobody can register.
    """

    token: str
    hosts: frozenset[str]
    exposed: bool

    def refusal(self, request: HTTPServerRequest) -> str | None:
        """Why the request is refused, in one line, or None."""
        if not self._is_ours(host := _host_name(request.host)):
            return f"Host {host or 'unnamed'} is not this server; add it to [ui] hosts if it is"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
            return f"requests from pages of {origin} are refused"
        return self._refusal_without_origin(request) if origin is None else None

    def allows_change(self, request: HTTPServerRequest) -> bool:
        """Whether the request holds the token."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        return hmac.compare_digest(given.encode(), self.token.encode())

    def may_show_token(self, request: HTTPServerRequest) -> bool:
        """Whether the page is asked for from this machine, by no proxy for others."""
        remote = ipaddress.ip_address((request.remote_ip or "0.0.0.0").partition("%")[0])
        return remote.is_loopback and not self.exposed and "X-Forwarded-For" not in request.headers

    def _is_ours(self, name: str) -> bool:
        if name in _LOOPBACK_NAMES or name in self.hosts:
            return True
        return self.exposed and (_is_address(name) or (bool(name) and "." not in name))

    @staticmethod
    def _refusal_without_origin(request: HTTPServerRequest) -> str | None:
        """Browsers send no Origin with a plain GET, by which Luigi's API changes things too; but they say this."""
        headers = request.headers
        site, is_api = headers.get("Sec-Fetch-Site"), request.path.startswith("/api/")
        if site in ("cross-site", "same-site"):
            is_link = headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
            return None if is_link and not is_api else "requests from pages of other sites are refused"
        by_script = headers.get("X-Requested-With") == "XMLHttpRequest"
        if is_api and site is None and "Mozilla" in headers.get("User-Agent", "") and not by_script:
            return "this browser does not say which page asks"
        return None


def new_guard(address: str, exposed: bool, hosts: list[str], folder: Path) -> Guard:
    """The guard of a server that listens on an address. Its token is kept in the folder, for its owner alone."""
    own = {address, socket.gethostname(), socket.getfqdn()} if exposed else {address}
    return Guard(_token(folder / "token"), frozenset(name.lower() for name in [*own, *hosts]), exposed)


def _token(file: Path) -> str:
    try:
        if token := file.read_text().strip():
            return token
    except FileNotFoundError:
        pass
    file.unlink(missing_ok=True)
    token = secrets.token_urlsafe(24)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as created:
        created.write(token + "\n")
    return token


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
