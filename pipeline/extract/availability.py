"""Checks whether a source has a file, and which edition of it, without downloading it."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import requests
import urllib3
from dateutil.relativedelta import relativedelta
from requests.adapters import HTTPAdapter

from pipeline.datasets import Release, format_month
from pipeline.errors import PipelineError
from pipeline.extract.download import RETRIED_STATUS, HttpOptions
from pipeline.extract.locations import Location, local_path, without_credentials

_ABSENT, _DENIED = (404, 410), 403
_TOTAL = re.compile(r"bytes [\d*-]+/(?P<total>\d+)", re.IGNORECASE)
# If a source denies a month, months that are this many months before it and before today are tried.
_MONTHS_BEFORE, _MONTHS_AGO = (1, 2, 3, 6, 12), (4, 6)

LocationsOf = Callable[[Release], Sequence[Location]]


@dataclass(frozen=True)
class Edition:
    """A source's headers for a file: `etag` and `last_modified` are empty and `length` is None if missing."""

    etag: str = ""
    last_modified: str = ""
    length: int | None = None

    def differs_from(self, etag: str, last_modified: str, length: int) -> bool:
        """Returns whether the file has changed since a response with these headers and this length."""
        if self.etag and etag:
            return self.etag.removeprefix("W/") != etag.removeprefix("W/")
        if self.length is not None and self.length != length:
            return True
        return bool(self.last_modified and last_modified and self.last_modified != last_modified)


class _Forbidden(Exception):
    """Raised if the source answered 403."""


def published_months(
    releases: Sequence[Release], locations_of: LocationsOf, options: HttpOptions
) -> list[datetime.date]:
    """Returns the months of the releases that are available at one of their locations, in the given order.

    :raises PipelineError: if a source does not answer or blocks the client.
    """
    found: list[datetime.date] = []
    denied: list[Location] = []
    answered: set[str] = set()
    with _session(options) as session:
        for release in releases:
            for location in locations_of(release):
                try:
                    if _probe(location.url(release), session, options) is None:
                        continue
                except _Forbidden:
                    denied += [location] if location not in denied else []
                    continue
                answered.add(location.base_url)
                assert release.month
                found.append(release.month)
                break
        unanswered = [location for location in denied if location.base_url not in answered]
        if unanswered:
            _check_not_blocked(releases[-1], unanswered, session, options)
    return found


def find_edition(release: Release, location: Location, options: HttpOptions) -> Edition | None:
    """Returns the edition of the release's file at the location, or None if there is no such file.

    :raises PipelineError: if the source does not answer or denies the file.
    """
    with _session(options) as session:
        try:
            return _probe(location.url(release), session, options)
        except _Forbidden:
            raise PipelineError(_NO_ANSWER.format(without_credentials(location.url(release)), "status 403")) from None


def check_not_blocked(release: Release, denied: Sequence[Location], options: HttpOptions) -> None:
    """Checks that locations that denied the release serve another month, so that they just lack the file.

    :raises PipelineError: if one of their base URLs denies all months that were tried.
    """
    with _session(options) as session:
        _check_not_blocked(release, denied, session, options)


def _check_not_blocked(
    release: Release, denied: Sequence[Location], session: requests.Session, options: HttpOptions
) -> None:
    for base_url in {location.base_url for location in denied}:
        tried = [
            (location, Release(release.dataset, month))
            for location in denied
            if location.base_url == base_url
            for month in _candidate_months(release, location)
        ]
        if any(_is_accessible(location.url(other), session, options) for location, other in tried):
            continue
        shown = without_credentials(next(location for location in denied if location.base_url == base_url).url(release))
        also = _also_denied(*tried[0]) if tried else ""
        raise PipelineError(
            f"blocked: the response to {shown} is 403 Forbidden{also}; check the network and its proxies, or choose"
            " another source with --source-base-url or --source-tlc-base-url"
        )


def _also_denied(location: Location, other: Release) -> str:
    assert other.month
    known = ", which must exist" if location.is_official else ""
    return f", also for {format_month(other.month)}{known}"


def _is_accessible(url: str, session: requests.Session, options: HttpOptions) -> bool:
    try:
        return _probe(url, session, options) is not None
    except _Forbidden:
        return False


def _candidate_months(release: Release, location: Location) -> list[datetime.date]:
    """Returns months that the publisher has, most certain first; a private mirror may lack the first one."""
    month, first, today = release.month, location.source.first_month, datetime.date.today().replace(day=1)
    if month is None:
        return []
    before = [month - relativedelta(months=n) for n in _MONTHS_BEFORE if month.year > 2]
    ago = [today - relativedelta(months=n) for n in _MONTHS_AGO]
    tried = [each for each in ([first] if first else []) + before + ago if location.source.has(each) and each != month]
    return list(dict.fromkeys(each for each in tried if each < today))


def _probe(url: str, session: requests.Session, options: HttpOptions) -> Edition | None:
    if local := local_path(url):
        if not local.is_file():
            return None
        status = local.stat()
        return Edition("", email.utils.formatdate(status.st_mtime, usegmt=True), status.st_size)
    try:
        # GET of the first byte instead of HEAD, which signed URLs that a site redirects to may refuse.
        headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
        timeouts = (options.connect_timeout, options.read_timeout)
        with session.get(url, headers=headers, stream=True, timeout=timeouts) as response:
            if response.status_code in _ABSENT:
                return None
            if response.status_code == _DENIED:
                raise _Forbidden
            if not response.ok:
                raise PipelineError(_NO_ANSWER.format(without_credentials(url), f"status {response.status_code}"))
            return _edition(response)
    except (requests.exceptions.RequestException, ValueError) as error:
        raise PipelineError(_NO_ANSWER.format(without_credentials(url), type(error).__name__)) from error


def _edition(response: requests.Response) -> Edition:
    headers = response.headers
    total = _TOTAL.fullmatch(headers.get("Content-Range", ""))
    length = total["total"] if total else headers.get("Content-Length", "") if response.status_code == 200 else ""
    return Edition(
        headers.get("ETag", ""), headers.get("Last-Modified", ""), int(length) if length.isdecimal() else None
    )


@contextlib.contextmanager
def _session(options: HttpOptions) -> Iterator[requests.Session]:
    with requests.Session() as session:
        retry = urllib3.Retry(
            options.retries,
            backoff_factor=0.5,
            backoff_max=options.longest_wait,
            status_forcelist=RETRIED_STATUS,
            respect_retry_after_header=False,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        yield session


_NO_ANSWER = "cannot check whether {} exists ({}); check the network, or choose another source with --source-base-url"
