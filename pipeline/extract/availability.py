"""Checks whether a source has a file, and which edition of it, without downloading it; records new editions."""

from __future__ import annotations

import datetime
import email.utils
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import requests
import urllib3
from dateutil.relativedelta import relativedelta

from pipeline.datasets import Release
from pipeline.errors import PipelineError
from pipeline.extract.connections import LimitedSession
from pipeline.extract.download import ABSENT_STATUS, DENIED_STATUS, RETRIED_STATUS, AccessDenied, HttpOptions
from pipeline.extract.locations import Location, local_path, without_credentials
from pipeline.files import locked, replace_file

_TOTAL = re.compile(r"bytes [\d*-]+/(?P<total>\d+)", re.IGNORECASE)
# If a source denies a month, months that are this many months before it and before today are tried.
_MONTHS_BEFORE, _MONTHS_AGO = (1, 2, 3, 6, 12), (4, 6)


@dataclass(frozen=True)
class Edition:
    """A source's headers for the file at `url`; if missing, `length` is None and the others are empty."""

    etag: str = ""
    last_modified: str = ""
    length: int | None = None
    url: str = field(default="", compare=False)  # what earlier versions recorded has none

    def differs_from(self, etag: str, last_modified: str, length: int) -> bool:
        """Returns whether the file has changed since a response with these headers and this length."""
        if self.etag and etag:
            return self.etag.removeprefix("W/") != etag.removeprefix("W/")
        if self.length is not None and self.length != length:
            return True
        return bool(self.last_modified and last_modified and self.last_modified != last_modified)


def published_months(
    releases: Sequence[Release], locations_of: Callable[[Release], Sequence[Location]], options: HttpOptions
) -> list[datetime.date]:
    """Returns the months of the releases that are available at one of their locations, in the given order.

    :raises PipelineError: if a source does not answer or blocks the client.
    """
    found: list[datetime.date] = []
    denied: list[Location] = []
    answered: set[str] = set()
    with _Session(options) as session:
        for release in releases:
            for location in locations_of(release):
                try:
                    if session.edition(release, location) is None:
                        continue
                except AccessDenied:
                    denied.append(location)
                    continue
                answered.add(location.base_url)
                assert release.month
                found.append(release.month)
                break
    if unanswered := [location for location in denied if location.base_url not in answered]:
        check_not_blocked(releases[-1], unanswered, options)
    return found


def find_edition(release: Release, location: Location, options: HttpOptions) -> Edition | None:
    """Returns the edition of the release's file at the location, or None if there is no such file.

    :raises PipelineError: if the source does not answer or denies the file.
    """
    with _Session(options) as session:
        try:
            return session.edition(release, location)
        except AccessDenied:
            raise _no_answer(location.url(release), f"status {DENIED_STATUS}") from None


def check_not_blocked(release: Release, denied: Sequence[Location], options: HttpOptions) -> None:
    """Checks that locations that denied the release serve another month, so that they just lack the file.

    :raises PipelineError: if one of their base URLs denies all months that were tried.
    """
    with _Session(options) as session:
        for base_url in dict.fromkeys(location.base_url for location in denied):
            locations = dict.fromkeys(location for location in denied if location.base_url == base_url)
            tried = [(location, other) for location in locations for other in _other_releases(release, location)]
            if any(session.has(other, location) for location, other in tried):
                continue
            also = ""
            if tried:
                location, other = tried[0]
                also = f", also for {other.month:%Y-%m}" + (", which must exist" if location.is_official else "")
            shown = without_credentials(next(iter(locations)).url(release))
            raise PipelineError(
                f"blocked: the response to {shown} is 403 Forbidden{also}; check the network and its proxies, or choose"
                " another [source] base_url or tlc_base_url"
            )


class NewEditions:
    """A file of the editions that have replaced loaded ones at their sources, by release key and source."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "editions.json"

    def read(self) -> dict[tuple[str, str], Edition]:
        """Returns the stored editions; empty if there is no file or another version wrote it."""
        try:
            entries = json.loads(self._file.read_text())
            return {(each.pop("key"), each.pop("source")): Edition(**each) for each in entries}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def record(self, seen: Mapping[tuple[str, str], Edition | None]) -> set[tuple[str, str]]:
        """Updates the file; None means that the source still has the loaded edition. Returns the keys of new editions.

        :raises OSError: if the file cannot be written.
        """
        if not seen:
            return set()
        with locked(self._file):
            known = self.read()
            kept = {key: edition for key, edition in {**known, **seen}.items() if edition}
            if kept != known:
                entries = [{"key": key, "source": source, **asdict(edition)} for (key, source), edition in kept.items()]
                replace_file(self._file, json.dumps(entries, indent=2).encode() + b"\n")
        return {key for key, edition in kept.items() if key in seen and known.get(key) != edition}


class _Session(LimitedSession):
    """A session that tries again when a server is unavailable."""

    def __init__(self, options: HttpOptions):
        retry = urllib3.Retry(
            options.retries,
            backoff_factor=0.5,
            backoff_max=options.longest_wait,
            status_forcelist=RETRIED_STATUS,
            respect_retry_after_header=False,
            raise_on_status=False,
        )
        super().__init__(options.read_timeout, retry)
        self._timeouts = (options.connect_timeout, options.read_timeout)

    def edition(self, release: Release, location: Location) -> Edition | None:
        """Returns the edition of the release's file at the location, or None if there is no such file.

        :raises AccessDenied: if the source answers 403.
        """
        url = location.url(release)
        shown = without_credentials(url)
        if local := local_path(url):
            if not local.is_file():
                return None
            status = local.stat()
            return Edition("", email.utils.formatdate(status.st_mtime, usegmt=True), status.st_size, shown)
        try:
            # GET of the first byte instead of HEAD, which signed URLs that a site redirects to may refuse.
            headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
            with self.get(url, headers=headers, stream=True, timeout=self._timeouts) as response:
                if response.status_code in ABSENT_STATUS:
                    return None
                if response.status_code == DENIED_STATUS:
                    raise AccessDenied
                if not response.ok:
                    raise _no_answer(url, f"status {response.status_code}")
                return _edition_in(response, shown)
        except (requests.exceptions.RequestException, ValueError) as error:
            raise _no_answer(url, type(error).__name__) from error

    def has(self, release: Release, location: Location) -> bool:
        """Returns whether the source has the release's file and lets it be read."""
        try:
            return self.edition(release, location) is not None
        except AccessDenied:
            return False


def _other_releases(release: Release, location: Location) -> list[Release]:
    """Returns months that the publisher has, most certain first; a private mirror may lack the first one."""
    month, first, today = release.month, location.source.first_month, datetime.date.today().replace(day=1)
    if month is None:
        return []
    before = [month - relativedelta(months=n) for n in _MONTHS_BEFORE if month.year > 2]
    ago = [today - relativedelta(months=n) for n in _MONTHS_AGO]
    tried = [each for each in ([first] if first else []) + before + ago if location.source.has(each) and each != month]
    return [Release(release.dataset, each) for each in dict.fromkeys(tried) if each < today]


def _edition_in(response: requests.Response, url: str) -> Edition:
    headers = response.headers
    total = _TOTAL.fullmatch(headers.get("Content-Range", ""))
    length = total["total"] if total else headers.get("Content-Length", "") if response.status_code == 200 else ""
    size = int(length) if length.isdecimal() else None
    return Edition(headers.get("ETag", ""), headers.get("Last-Modified", ""), size, url)


def _no_answer(url: str, reason: str) -> PipelineError:
    return PipelineError(
        f"cannot check whether {without_credentials(url)} exists ({reason}); check the network, or choose another"
        " [source] base_url"
    )
