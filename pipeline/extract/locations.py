"""Determines the locations of a release: its sources with their base URLs, in the order in which they are tried."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pipeline.datasets import Dataset, Release, Source, format_month
from pipeline.datasets.month_range import Months
from pipeline.datasets.spec import MIRROR, TLC
from pipeline.errors import PipelineError

RELEASE_MIRROR = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download"
TLC_SITE = "https://d37ci6vzurychx.cloudfront.net/trip-data"

# The second alternative matches passwords with an unescaped slash or similar, where the port is not a number.
_USER = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s@\[]*:(?!\d*(?:[/?#\s'\"]|$))[^\s'\"]*@)")
HTTP_URL = re.compile(r"https?://(?:[^/?#\s@]*@)?[^/?#\s:]", re.IGNORECASE)  # with a host
_QUERY = re.compile(r"(?P<kept>\w+://[^\s?#'\"]*)[?#][^\s'\"]*")


@dataclass(frozen=True)
class Location:
    """A source and its base URL: an http(s) URL, a file URL or a folder."""

    source: Source
    base_url: str

    def url(self, release: Release) -> str:
        """Returns the URL of the release's file; may contain credentials."""
        return source_url(self.base_url, release.path_in(self.source))

    @property
    def is_official(self) -> bool:
        """Whether this is a publisher's site, whose months are known, and not a private mirror."""
        return is_site(self.base_url, RELEASE_MIRROR) or is_site(self.base_url, TLC_SITE)


def locations(release: Release, base_url: str, tlc_base_url: str = "", source: str = "") -> tuple[Location, ...]:
    """Returns the locations that may have the release, in the order to try them; of the given source only, if any.

    A private mirror stands for all sources, unless `tlc_base_url` is set: it may have the layout of the CSV mirror or
    of TLC's site, and months that neither of them has.

    :raises PipelineError: if the dataset has no such source, or its files of that month cannot be loaded.
    """
    base_url, tlc_base_url = _absolute(base_url), _absolute(tlc_base_url)
    is_private = not is_site(base_url, RELEASE_MIRROR)
    bases = {MIRROR: base_url, TLC: tlc_base_url or (base_url if is_private else TLC_SITE)}
    sources = (release.source_named(source),) if source else release.sources()
    known = [each for each in sources if each.has(release.month)]
    if not known and not source:
        _check_first_month(release)
    possible = [each for each in sources if each not in known and (is_private or source or not known)]
    return tuple(Location(each, bases[each.name]) for each in (*known, *possible))


def possible_months(dataset: Dataset, months: Months, base_url: str, tlc_base_url: str) -> Months:
    """Returns those of the months that the publishers have, or for a mirror of one's own those that have begun.

    :raises PipelineError: if there are none.
    """
    has_own_mirror = not is_site(base_url, RELEASE_MIRROR) or (tlc_base_url and not is_site(tlc_base_url, TLC_SITE))
    return months.until_now() if has_own_mirror else months.published(dataset)


def is_site(base_url: str, site: str) -> bool:
    """Returns whether a base URL is that of a publisher's site, with or without a slash at its end."""
    return base_url.rstrip("/") == site


def source_url(base_url: str, path: str) -> str:
    """Returns the location of a file below the base, which is an http(s) URL, a file URL or a folder."""
    query = ""
    if base_url.lower().startswith(("http://", "https://")) and "?" in base_url:
        base_url, query = base_url.split("?", 1)
    return f"{base_url.rstrip('/')}/{path}" + (f"?{query}" if query else "")


def local_path(url: str) -> Path | None:
    """Returns the path of a file URL or plain path, or None for an HTTP URL.

    :raises PipelineError: for any other URL.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        return Path(url).expanduser()
    shown = without_credentials(url)
    if scheme.lower() in ("http", "https"):
        if not HTTP_URL.match(url):
            raise PipelineError(f"{shown}: names no host; check [source] base_url and tlc_base_url")
        return None
    if scheme.lower() != "file":
        raise PipelineError(f"{shown}: [source] base_url must be an http(s) URL, a file URL or a folder")
    host, slash, path = url[len("file://") :].partition("/")
    if host not in ("", "localhost"):
        shown_host = without_credentials(f"file://{host}").removeprefix("file://")
        raise PipelineError(f"{shown}: {shown_host} is read as a host name; write file:///path in [source] base_url")
    return Path(unquote(slash + path))


def _absolute(base_url: str) -> str:
    """Returns a folder's absolute path, because the ledger keeps it; another base URL is unchanged."""
    return base_url if "://" in base_url or not base_url else str(Path(base_url).expanduser().absolute())


def without_credentials(text: str) -> str:
    """Removes user names, passwords and queries from all URLs in a text."""
    return _QUERY.sub(r"\g<kept>", _USER.sub("", text))


def _check_first_month(release: Release) -> None:
    for source in release.dataset.sources:
        if source.before and source.first_month and release.month and release.month < source.first_month:
            first = format_month(source.first_month)
            raise PipelineError(f"{release} is not loaded: {source.before}; the first month is {first}")
