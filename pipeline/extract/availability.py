"""Asks sources whether they have a file, and which edition of it, without fetching it."""

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
# How many months before the one in question are asked for, and before today, when a source denies a month.
_MONTHS_BEFORE, _MONTHS_AGO = (1, 2, 3, 6, 12), (4, 6)

LocationsOf = Callable[[Release], Sequence[Location]]


@dataclass(frozen=True)
class Edition:
    """What a source says of a file: `etag` and `last_modified` are empty, and `length` None, where it says nothing."""

    etag: str = ""
    last_modified: str = ""
    length: int | None = None

    def is_other_than(self, etag: str, last_modified: str, length: int) -> bool:
        """Whether the file is another one than that of which this was said before."""
        if self.etag and etag:
            return self.etag.removeprefix("W/") != etag.removeprefix("W/")
        if self.length is not None and self.length != length:
            return True
        return bool(self.last_modified and last_modified and self.last_modified != last_modified)


class _Denied(Exception):
    """The source answered 403."""


def published_months(
    releases: Sequence[Release], locations_of: LocationsOf, options: HttpOptions
) -> list[datetime.date]:
    """The months of those releases that one of their locations has a file of, in the order given.

    :raises PipelineError: when a source cannot be asked, or blocks us.
    """
    found: list[datetime.date] = []
    denied: list[Location] = []
    answered: set[str] = set()
    with _session(options) as session:
        for release in releases:
            for location in locations_of(release):
                try:
                    if _look(location.url(release), session, options) is None:
                        continue
                except _Denied:
                    denied += [location] if location not in denied else []
                    continue
                answered.add(location.base_url)
                assert release.month
                found.append(release.month)
                break
        silent = [location for location in denied if location.base_url not in answered]
        if silent:
            _check_not_blocked(releases[-1], silent, session, options)
    return found


def edition_of(release: Release, location: Location, options: HttpOptions) -> Edition | None:
    """What the location says of the release's file, None where it has none.

    :raises PipelineError: when it cannot be asked, or denies the file.
    """
    with _session(options) as session:
        try:
            return _look(location.url(release), session, options)
        except _Denied:
            raise PipelineError(_NO_ANSWER.format(without_credentials(location.url(release)), "status 403")) from None


def check_not_blocked(release: Release, denied: Sequence[Location], options: HttpOptions) -> None:
    """Returns when the locations, which denied the release, give another month: then they have no such file.

    :raises PipelineError: when no month that was tried is given below one of their base URLs.
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
            for month in _months_to_try(release, location)
        ]
        if any(_is_given(location.url(other), session, options) for location, other in tried):
            continue
        shown = without_credentials(next(location for location in denied if location.base_url == base_url).url(release))
        also = _also_denied(*tried[0]) if tried else ""
        raise PipelineError(
            f"blocked: {shown} is answered with 403 Forbidden{also}; check the network and its proxies, or name another"
            " source with --source-base-url or --source-tlc-base-url"
        )


def _also_denied(location: Location, other: Release) -> str:
    assert other.month
    known = ", which must be there" if location.is_publishers else ""
    return f", and so is {format_month(other.month)}{known}"


def _is_given(url: str, session: requests.Session, options: HttpOptions) -> bool:
    try:
        return _look(url, session, options) is not None
    except _Denied:
        return False


def _months_to_try(release: Release, location: Location) -> list[datetime.date]:
    """Months that the publisher has, the surest first; a source of somebody's own may lack the first one."""
    month, first, today = release.month, location.source.first_month, datetime.date.today().replace(day=1)
    if month is None:
        return []
    before = [month - relativedelta(months=n) for n in _MONTHS_BEFORE if month.year > 2]
    ago = [today - relativedelta(months=n) for n in _MONTHS_AGO]
    tried = [each for each in ([first] if first else []) + before + ago if location.source.has(each) and each != month]
    return list(dict.fromkeys(each for each in tried if each < today))


def _look(url: str, session: requests.Session, options: HttpOptions) -> Edition | None:
    if local := local_path(url):
        if not local.is_file():
            return None
        status = local.stat()
        return Edition("", email.utils.formatdate(status.st_mtime, usegmt=True), status.st_size)
    try:
        # The first byte by GET, not HEAD, which signed addresses that a site redirects to may refuse.
        headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
        timeouts = (options.connect_timeout, options.read_timeout)
        with session.get(url, headers=headers, stream=True, timeout=timeouts) as response:
            if response.status_code in _ABSENT:
                return None
            if response.status_code == _DENIED:
                raise _Denied
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


_NO_ANSWER = "cannot tell whether there is a {} ({}); check the network, or name another source with --source-base-url"
