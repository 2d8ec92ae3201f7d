"""Where a release may be fetched from: its sources, each below its base URL, in the order to ask them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pipeline.datasets import Release, Source, format_month
from pipeline.datasets.spec import MIRROR, TLC
from pipeline.errors import PipelineError

RELEASE_MIRROR = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download"
TLC_SITE = "https://d37ci6vzurychx.cloudfront.net/trip-data"

# The second way is that of a password with a slash or the like in it as it is: what looks like a port is no number.
_USER = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s@\[]*:(?!\d*(?:[/?#\s'\"]|$))[^\s'\"]*@)")
_QUERY = re.compile(r"(?P<kept>\w+://[^\s?#'\"]*)[?#][^\s'\"]*")


@dataclass(frozen=True)
class Location:
    """A source and its base: an http(s) URL, a file URL or a folder."""

    source: Source
    base_url: str

    def url(self, release: Release) -> str:
        """Where the release's file is; may hold credentials."""
        return source_url(self.base_url, release.path_in(self.source))

    @property
    def is_publishers(self) -> bool:
        """Whether the publisher is known to have months here; of a base of somebody's own, nothing is known."""
        return self.base_url in (RELEASE_MIRROR, TLC_SITE)

    def folder(self) -> Path | None:
        """The folder that the base is; None for what is fetched over HTTP."""
        return local_path(self.base_url)


def locations(release: Release, base_url: str, tlc_base_url: str = "", source: str = "") -> tuple[Location, ...]:
    """The locations that may have the release, in the order to ask them; those of one source, if it is named.

    A base URL of somebody's own stands for all sources, unless TLC's has one of its own: it may be laid out as the
    mirror or as TLC's site, and have months that are on neither.

    :raises PipelineError: when the dataset has no such source, or nothing that could be read of that month.
    """
    is_own = base_url != RELEASE_MIRROR
    bases = {MIRROR: base_url, TLC: tlc_base_url or (base_url if is_own else TLC_SITE)}
    sources = (release.source_named(source),) if source else release.sources()
    known = [each for each in sources if each.has(release.month)]
    if not known and not source:
        _refuse_early_month(release)
    maybe = [each for each in sources if each not in known and (is_own or source or not known)]
    return tuple(Location(each, bases[each.name]) for each in (*known, *maybe))


def source_url(base_url: str, path: str) -> str:
    """Where a file lies below the base, which is an http(s) URL, a file URL or a folder."""
    query = ""
    if base_url.lower().startswith(("http://", "https://")) and "?" in base_url:
        base_url, query = base_url.split("?", 1)
    return f"{base_url.rstrip('/')}/{path}" + (f"?{query}" if query else "")


def local_path(url: str) -> Path | None:
    """The path that a file URL or a plain path stands for; None for what is fetched over HTTP.

    :raises PipelineError: when it is none of these.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        return Path(url).expanduser()
    if scheme.lower() in ("http", "https"):
        return None
    shown = without_credentials(url)
    if scheme.lower() != "file":
        raise PipelineError(f"{shown}: [source] base_url must be an http(s) URL, a file URL or a folder")
    host, slash, path = url[len("file://") :].partition("/")
    if host not in ("", "localhost"):
        named = without_credentials(f"file://{host}").removeprefix("file://")
        raise PipelineError(f"{shown}: {named} would be a host; write file:/// and then the path, in [source] base_url")
    return Path(unquote(slash + path))


def without_credentials(text: str) -> str:
    """The text with every URL in it as it may be shown: without a user's name and password, and without a query."""
    return _QUERY.sub(r"\g<kept>", _USER.sub("", text))


def _refuse_early_month(release: Release) -> None:
    for source in release.dataset.sources:
        if source.before and source.first_month and release.month and release.month < source.first_month:
            first = format_month(source.first_month)
            raise PipelineError(f"{release} is not loaded: {source.before}; the first month is {first}")
