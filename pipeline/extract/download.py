"""Downloads one file over HTTP: resumable, patient, and never fooled by half an answer."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

import requests
import urllib3

from pipeline.errors import PipelineError, TransientError
from pipeline.extract.connection_watch import ConnectionWatch
from pipeline.extract.locations import without_credentials
from pipeline.extract.partial_download import PartialDownload
from pipeline.progress import Progress

logger = logging.getLogger("luigi-interface")

CHUNK_BYTES = 1 << 18
RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<total>\d+|\*)", re.IGNORECASE)
# What no second try can fix: addresses, here or in a redirect, that lead nowhere.
_WRONG_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.TooManyRedirects,
)


@dataclass(frozen=True)
class HttpOptions:
    """Patience with a source: timeouts and waits in seconds, retries counted between two steps of progress.

    Bytes must arrive at `minimum_rate` a second; no file is larger than `largest_file` bytes, and none takes longer
    than `longest_download` seconds.
    """

    connect_timeout: float
    read_timeout: float
    retries: int
    longest_wait: float
    minimum_rate: float = 0
    largest_file: float = math.inf
    longest_download: float = math.inf


class FileNotPublished(Exception):
    """The source answered that it has no such file (404 or 410)."""


class AccessDenied(Exception):
    """The source answered 403: it has no such file, or does not give it to us."""


class _TryAgain(Exception):
    """The source failed in a way that may pass."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _TooSlow(_TryAgain):
    """The source gives so little that there is no counting on its ever being enough."""


class _StartOver(Exception):
    """What has been downloaded so far cannot be continued."""


def download(url: str, part: PartialDownload, options: HttpOptions, progress: Progress) -> tuple[str, str]:
    """Returns only when `part` holds as many bytes as the source announced: the ETag and Last-Modified of them.

    Goes on from what an earlier, broken run left in `part`, if the server still has the same file (RFC 9110,
    If-Range). Waits longer from failure to failure, or as long as Retry-After says, up to `longest_wait`.

    :raises FileNotPublished: when the source has no such file.
    :raises AccessDenied: when it answers 403, which may mean the same.
    :raises PipelineError: when the source refuses, or fails `retries` times over without any progress.
    """
    failures = farthest = 0
    shown, give_up_at = without_credentials(url), time.monotonic() + options.longest_download
    while True:
        _check_time(give_up_at, shown, options)
        try:
            return _attempt(url, part, options, give_up_at, progress)
        except _StartOver as reason:
            logger.info("%s: %s; starting over", shown, reason)
            part.discard()
            failures += 1
            if failures > options.retries:
                raise _gave_up(shown, reason, failures) from reason
        except _TryAgain as error:
            failures = 1 if part.size > farthest and not isinstance(error, _TooSlow) else failures + 1
            farthest = max(farthest, part.size)
            if failures > options.retries:
                raise _gave_up(shown, error, failures) from error
            backoff = 0.5 * 2 ** min(failures - 1, 16)
            wait = min(backoff if error.wait is None else error.wait, options.longest_wait)
            logger.warning("%s: %s; trying again in %.1f s (%d of %d)", shown, error, wait, failures, options.retries)
            time.sleep(wait)


def _gave_up(url: str, reason: object, failures: int) -> TransientError:
    return TransientError(
        f"cannot fetch {url}: {reason} (tried {failures} times); check the network, or name another source with"
        f" --source-base-url, or see the pipeline work on real months that are here: make demo"
    )


def _attempt(
    url: str, part: PartialDownload, options: HttpOptions, give_up_at: float, progress: Progress
) -> tuple[str, str]:
    shown, headers = without_credentials(url), {"Accept-Encoding": "identity"}
    validator = part.validator(shown)
    offset = part.size if validator else 0
    if validator:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        timeouts = (options.connect_timeout, options.read_timeout)
        with (
            ConnectionWatch(options.read_timeout, options.minimum_rate) as watch,
            watch.session() as session,
            _explained(watch),
            session.get(url, headers=headers, stream=True, timeout=timeouts) as response,
        ):
            _check_status(response, shown)
            if response.status_code == 206:
                _check_continues(response, part, offset)
            else:
                offset = 0
                part.begin(shown, response.headers)
            _receive(response, part, offset, options, give_up_at, watch, progress)
            edition = part.edition()
            part.complete()
            return edition
    except _WRONG_ADDRESS as error:
        reason = without_credentials(str(error)).rstrip(".")
        raise PipelineError(f"cannot fetch {shown}: {reason}; check --source-base-url") from error
    except requests.exceptions.ConnectionError as error:
        raise _TryAgain(f"no connection to {urlsplit(shown).netloc} ({_root_cause(error)})") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _TryAgain(f"the connection broke ({_root_cause(error)})") from error
    except (ValueError, UnicodeError) as error:
        raise PipelineError(
            f"cannot fetch {shown}: the server refers to an address that is none ({_root_cause(error)}); check"
            " --source-base-url"
        ) from error


@contextlib.contextmanager
def _explained(watch: ConnectionWatch) -> Iterator[None]:
    """Says why the connection broke where it was the watch that broke it."""
    try:
        yield
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, _TryAgain) as error:
        if watch.reason:
            raise _TooSlow(watch.reason) from error
        raise


def _receive(
    response: requests.Response,
    part: PartialDownload,
    offset: int,
    options: HttpOptions,
    give_up_at: float,
    watch: ConnectionWatch,
    progress: Progress,
) -> None:
    done, total = offset, _announced_size(response, offset)
    shown = without_credentials(response.url)
    _check_size(total or 0, shown, options)
    with part.path.open("ab") as file:
        # read1 returns what has arrived and flush passes it on, so that a stall or a kill costs none of it.
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            file.flush()
            done += len(chunk)
            watch.received(len(chunk))
            progress(done, total)
            if done > options.largest_file:
                part.discard()
                _check_size(done, shown, options)
            if done != total:
                _check_time(give_up_at, shown, options)
    if watch.reason:  # a body of no announced length ends like one that is complete
        raise _TooSlow(watch.reason)
    if total is not None and done != total:
        raise _TryAgain(f"the connection broke after {done:,} of {total:,} bytes")


def _check_size(size: int, url: str, options: HttpOptions) -> None:
    if size > options.largest_file:
        raise PipelineError(
            f"cannot fetch {url}: {size / 1e6:,.0f} MB or more, and no file may have more than"
            f" {options.largest_file / 1e6:,.0f} MB; check --source-base-url, or raise [source] largest_file_mb"
        )


def _check_time(give_up_at: float, url: str, options: HttpOptions) -> None:
    if time.monotonic() > give_up_at:
        raise TransientError(
            f"cannot fetch {url}: not done after {options.longest_download:,.0f} s; run again to go on with it, or"
            " raise [source] longest_download"
        )


def _announced_size(response: requests.Response, offset: int) -> int | None:
    """The size of the whole file, of which a 206 may hold less than was asked for."""
    content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code == 206 and content_range and content_range["total"] != "*":
        return int(content_range["total"])
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if length.isdecimal() else None


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in (404, 410):
        raise FileNotPublished
    if status == 403:
        raise AccessDenied
    if status == 416:
        raise _StartOver("the server has no more of the file than is here already")
    if status in RETRIED_STATUS:
        raise _TryAgain(f"the server answered {status} {response.reason}", _retry_after(response))
    if status not in (200, 206):
        raise PipelineError(
            f"cannot fetch {url}: the server answered {status} {response.reason}; check --source-base-url"
        )


def _check_continues(response: requests.Response, part: PartialDownload, offset: int) -> None:
    content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not content_range or int(content_range["first"]) != offset:
        raise _StartOver("the server sent another part of the file than was asked for")
    if not part.is_of(response.headers):  # some servers know Range, but not If-Range
        raise _StartOver("the file has changed at its source")


def _retry_after(response: requests.Response) -> float | None:
    try:
        value = response.headers.get("Retry-After")
        return urllib3.Retry().parse_retry_after(value) if value else None
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # such as the 31st of February
        return None


def _root_cause(error: BaseException) -> str:
    # What http.client says is plain; below it is only how it noticed.
    while not isinstance(error, HTTPException) and (inner := error.__cause__ or error.__context__):
        error = inner
    return without_credentials(str(error)) or type(error).__name__
