"""Downloads one file over HTTP; resumes interrupted downloads, retries, and verifies the length."""

from __future__ import annotations

import logging
import math
import re
import time
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

import requests
import urllib3

from pipeline.errors import PipelineError, TransientError, counted
from pipeline.extract.connections import LimitedSession
from pipeline.extract.locations import without_credentials
from pipeline.extract.partial_download import PartialDownload
from pipeline.progress import Progress

logger = logging.getLogger("luigi-interface")

CHUNK_BYTES = 1 << 18
ABSENT_STATUS, DENIED_STATUS = (404, 410), 403
RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<total>\d+|\*)", re.IGNORECASE)
# Errors that a retry cannot fix: invalid addresses, configured or in a redirect.
_INVALID_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.TooManyRedirects,
)


@dataclass(frozen=True)
class HttpOptions:
    """Limits of a download. Times are in seconds; `retries` is the number of consecutive retries without progress.

    `minimum_rate` is in bytes per second and `largest_file` in bytes.
    """

    connect_timeout: float
    read_timeout: float
    retries: int
    longest_wait: float
    minimum_rate: float = 0
    largest_file: float = math.inf
    longest_download: float = math.inf


class FileNotPublished(Exception):
    """Raised if the source answered that it has no such file (404 or 410)."""


class AccessDenied(FileNotPublished):
    """Raised if the source answered 403: it has no such file or denies access."""


class _RetryableError(Exception):
    """A failure that may be transient."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _TooSlow(_RetryableError):
    """The source is too slow; counts as a retry without progress."""


def download(url: str, part: PartialDownload, options: HttpOptions, progress: Progress) -> tuple[str, str]:
    """Downloads the file into `part`, verifies its length, and returns its ETag and Last-Modified.

    Resumes an interrupted download in `part` if the server still has the same file (RFC 9110, If-Range). Waits between
    retries with exponential backoff, or as Retry-After says, but at most `longest_wait`.

    :raises FileNotPublished: if the source has no such file.
    :raises AccessDenied: if it answers 403, which may mean the same.
    :raises PipelineError: if the source rejects the request, or after `retries` retries without progress.
    """
    return _Download(url, part, options, progress).run()


class _Download:
    """One download, with its retries."""

    def __init__(self, url: str, part: PartialDownload, options: HttpOptions, progress: Progress):
        self._url, self._shown = url, without_credentials(url)
        self._part, self._options, self._progress = part, options, progress
        self._deadline = time.monotonic() + options.longest_download

    def run(self) -> tuple[str, str]:
        failures = farthest = 0
        part, options = self._part, self._options
        while True:
            self._check_time()
            try:
                return self._attempt()
            except _RetryableError as error:
                failures = 1 if part.size > farthest and not isinstance(error, _TooSlow) else failures + 1
                farthest = max(farthest, part.size)
                if failures > options.retries:
                    raise TransientError(
                        f"cannot fetch {self._shown}: {error} (tried {counted(failures, 'time')}); check the network,"
                        " or choose another [source] base_url, or try the pipeline on the files that come with it:"
                        " make demo"
                    ) from error
                backoff = 0.5 * 2 ** min(failures - 1, 16)
                wait = min(backoff if error.wait is None else error.wait, options.longest_wait)
                tries = f"{failures} of {options.retries}"
                logger.warning("%s: %s; trying again in %.1f s (%s)", self._shown, error, wait, tries)
                time.sleep(wait)

    def _attempt(self) -> tuple[str, str]:
        headers = {"Accept-Encoding": "identity"}
        validator = self._part.validator(self._shown)
        offset = self._part.size if validator else 0
        if validator:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        try:
            timeouts = (self._options.connect_timeout, self._options.read_timeout)
            with (
                LimitedSession(self._options.read_timeout) as session,
                session.get(self._url, headers=headers, stream=True, timeout=timeouts) as response,
            ):
                self._check_status(response)
                if response.status_code == 206:
                    self._check_continues(response, offset)
                else:
                    offset = 0
                    self._part.start(self._shown, response.headers)
                self._receive(response, offset)
                return self._part.complete()
        except _INVALID_ADDRESS as error:
            raise self._refused(without_credentials(str(error)).rstrip(".")) from error
        except requests.exceptions.ConnectionError as error:
            raise _RetryableError(f"no connection to {urlsplit(self._shown).netloc} ({_root_cause(error)})") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _RetryableError(f"the connection broke ({_root_cause(error)})") from error
        except (ValueError, UnicodeError) as error:
            raise self._refused(f"the server redirects to an invalid address ({_root_cause(error)})") from error

    def _receive(self, response: requests.Response, offset: int) -> None:
        done, total = offset, _announced_size(response, offset)
        self._check_size(total or 0)
        since, done_then = time.monotonic(), done
        with self._part.path.open("ab") as file:
            # read1 returns the bytes that have arrived and flush writes them, so that a stall or a kill loses none.
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                file.flush()
                done += len(chunk)
                self._progress(done, total)
                if done > self._options.largest_file:
                    self._part.discard()
                    self._check_size(done)
                if done == total:
                    continue
                self._check_time()
                if (waited := time.monotonic() - since) >= self._options.read_timeout:
                    self._check_rate((done - done_then) / waited)
                    since, done_then = time.monotonic(), done
        if total is not None and done != total:
            raise _RetryableError(f"the connection broke after {done:,} of {total:,} bytes")

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status in ABSENT_STATUS:
            raise FileNotPublished
        if status == DENIED_STATUS:
            raise AccessDenied
        if status == 416:
            raise self._started_over("the server's file is not longer than the partial download")
        if status in RETRIED_STATUS:
            raise _RetryableError(f"the server answered {status} {response.reason}", _retry_after(response))
        if status not in (200, 206):
            raise self._refused(f"the server answered {status} {response.reason}")

    def _check_continues(self, response: requests.Response, offset: int) -> None:
        content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not content_range or int(content_range["first"]) != offset:
            raise self._started_over("the server sent a different part of the file than requested")
        if not self._part.matches(response.headers):  # some servers support Range, but not If-Range
            raise self._started_over("the file has changed at its source")

    def _started_over(self, reason: str) -> _RetryableError:
        self._part.discard()
        return _RetryableError(reason, wait=0)

    def _check_size(self, size: int) -> None:
        if size > self._options.largest_file:
            raise self._refused(
                f"{size / 1e6:,.0f} MB or more, above the limit of {self._options.largest_file / 1e6:,.0f} MB",
                ", or raise [source] largest_file_mb",
            )

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise TransientError(
                f"cannot fetch {self._shown}: not finished after {self._options.longest_download:,.0f} s; run again to"
                " resume it, or raise [source] longest_download"
            )

    def _check_rate(self, rate: float) -> None:
        if rate < self._options.minimum_rate:
            limit = f"[source] minimum_rate {self._options.minimum_rate:,.0f}"
            raise _TooSlow(f"{rate:,.0f} bytes per second, below {limit}")

    def _refused(self, reason: str, alternative: str = "") -> PipelineError:
        return PipelineError(f"cannot fetch {self._shown}: {reason}; check [source] base_url{alternative}")


def _announced_size(response: requests.Response, offset: int) -> int | None:
    """Returns the size of the complete file, also for a 206 response; None if unknown."""
    content_range = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code == 206 and content_range and content_range["total"] != "*":
        return int(content_range["total"])
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if length.isdecimal() else None


def _retry_after(response: requests.Response) -> float | None:
    try:
        value = response.headers.get("Retry-After")
        return urllib3.Retry().parse_retry_after(value) if value else None
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # for example, an invalid date
        return None


def _root_cause(error: BaseException) -> str:
    # Messages of http.client are clear; the causes of its exceptions are not.
    while not isinstance(error, HTTPException) and (inner := error.__cause__ or error.__context__):
        error = inner
    return without_credentials(str(error)) or type(error).__name__
