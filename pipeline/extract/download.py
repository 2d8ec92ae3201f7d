"""Downloads one file over HTTP: resumable, patient, and never fooled by half an answer."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from pipeline.errors import PipelineError
from pipeline.progress import Progress

logger = logging.getLogger("luigi-interface")

CHUNK_BYTES = 1 << 18
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class HttpOptions:
    """Patience with a source: timeouts and waits in seconds, retries counted between two steps of progress."""

    connect_timeout: float
    read_timeout: float
    retries: int
    longest_wait: float


class FileNotPublished(Exception):
    """The source answered that it has no such file (404 or 410)."""


class _TryAgain(Exception):
    """The source failed in a way that may pass."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _StartOver(Exception):
    """What has been downloaded so far cannot be continued."""


def download(url: str, part: Path, options: HttpOptions, progress: Progress) -> None:
    """Returns only when `part` holds as many bytes as the source announced.

    Goes on from what an earlier, broken run left in `part`, if the server still has the same file (RFC 9110,
    If-Range). Waits longer from failure to failure, or as long as Retry-After says, up to `longest_wait`.

    :raises FileNotPublished: when the source has no such file.
    :raises PipelineError: when the source refuses, or fails `retries` times over without any progress.
    """
    failures, farthest = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, options, progress)
        except _StartOver as reason:
            logger.info("%s: %s; starting over", url, reason)
            part.unlink(missing_ok=True)
            failures += 1
        except _TryAgain as error:
            failures = 1 if _size(part) > farthest else failures + 1
            farthest = max(farthest, _size(part))
            if failures > options.retries:
                raise _gave_up(url, error, failures) from error
            wait = min(error.wait if error.wait is not None else 0.5 * 2 ** (failures - 1), options.longest_wait)
            logger.warning("%s: %s; trying again in %.1f s (%d of %d)", url, error, wait, failures, options.retries)
            time.sleep(wait)
        if failures > options.retries:
            raise _gave_up(url, "the file kept changing during the download", failures)


def _gave_up(url: str, reason: object, failures: int) -> PipelineError:
    return PipelineError(
        f"cannot fetch {url}: {reason} (tried {failures} times); check the network, or name another source with"
        f" --source-base-url, or see the pipeline work on generated data with: make demo"
    )


def _attempt(url: str, part: Path, options: HttpOptions, progress: Progress) -> None:
    offset, headers = _size(part), {"Accept-Encoding": "identity"}
    if offset and (validator := _read_validator(part, url)):
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        timeouts = (options.connect_timeout, options.read_timeout)
        with requests.get(url, headers=headers, stream=True, timeout=timeouts) as response:
            _receive(response, url, part, offset, progress)
    except requests.exceptions.ConnectionError as error:
        raise _TryAgain(f"no connection to {urlsplit(url).netloc} ({_root_cause(error)})") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _TryAgain(f"the connection broke ({_root_cause(error)})") from error


def _receive(response: requests.Response, url: str, part: Path, offset: int, progress: Progress) -> None:
    _check_status(response, url, offset)
    resumed = response.status_code == 206
    start = offset if resumed else 0
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdecimal() else None
    if not resumed:
        _write_validator(part, url, response)
    done = start
    with part.open("ab" if resumed else "wb") as file:
        for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            done += len(chunk)
            progress(done, total)
    if total is not None and done != total:
        raise _TryAgain(f"the connection broke after {done:,} of {total:,} bytes")
    validator_file(part).unlink(missing_ok=True)


def _check_status(response: requests.Response, url: str, offset: int) -> None:
    status = response.status_code
    if status in (404, 410):
        raise FileNotPublished
    if status == 416:
        raise _StartOver("the server has no more of the file than is here already")
    if status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        raise _StartOver("the server sent another part of the file than was asked for")
    if status in _RETRIED_STATUS:
        raise _TryAgain(f"the server answered {status} {response.reason}", _retry_after(response))
    if status not in (200, 206):
        raise PipelineError(
            f"cannot fetch {url}: the server answered {status} {response.reason}; check --source-base-url"
        )


def _retry_after(response: requests.Response) -> float | None:
    try:
        value = response.headers.get("Retry-After")
        return urllib3.Retry().parse_retry_after(value) if value else None
    except urllib3.exceptions.InvalidHeader:
        return None


def _root_cause(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def validator_file(part: Path) -> Path:
    """Where the version of the file that a broken download belongs to is kept."""
    return part.with_name(part.name + ".validator")


def _write_validator(part: Path, url: str, response: requests.Response) -> None:
    etag = response.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else None  # RFC 9110, 13.1.5: If-Range takes no weak entity tag
    validator = strong or response.headers.get("Last-Modified")
    if validator:
        validator_file(part).write_text(json.dumps({"url": url, "validator": validator}))
    else:
        validator_file(part).unlink(missing_ok=True)


def _read_validator(part: Path, url: str) -> str | None:
    try:
        kept = json.loads(validator_file(part).read_text())
        return str(kept["validator"]) if kept["url"] == url else None
    except (OSError, ValueError, KeyError):
        return None
