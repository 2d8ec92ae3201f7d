"""Failed, slow and oversized downloads: what is retried, for how long, and how it is reported (`download.py`)."""

from __future__ import annotations

import io
import logging
import re
import sys
import time
from dataclasses import replace
from email.utils import formatdate

import pytest
from central import free_port
from conftest import CONTENT, JANUARY, SHORTEST_WAITS, Fetch
from http_source import FINE, Fault, HttpSource

from pipeline.errors import PipelineError, TransientError
from pipeline.extract.download import FileNotPublished, download
from pipeline.extract.partial_download import PartialDownload
from pipeline.progress import silent
from pipeline.tasks import base
from pipeline.tasks.extract import ExtractTripdata


@pytest.mark.parametrize("fault", [*(Fault(status=s) for s in (500, 502, 503, 504, 408, 429)), Fault(hang_up=True)])
def test_temporary_failure_is_retried(site: HttpSource, fetch: Fetch, fault: Fault) -> None:
    site.faults = [fault, fault]

    assert fetch() == CONTENT


def test_downloaded_bytes_are_kept_after_a_temporary_failure(site: HttpSource, fetch: Fetch) -> None:
    site.faults = [Fault(cut_after=4_000), Fault(status=503)]

    assert fetch() == CONTENT
    assert site.ranges == [None, "bytes=4000-", "bytes=4000-"]


@pytest.mark.parametrize(
    "fault", [Fault(status=503), Fault(hang_up=True), Fault(cut_after=0), Fault(stall_after=0)], ids=repr
)
def test_persistent_failure_is_reported_after_the_retries(site: HttpSource, fetch: Fetch, fault: Fault) -> None:
    site.later_fault = fault

    with pytest.raises(PipelineError, match="tried 3 times") as caught:
        fetch(replace(SHORTEST_WAITS, read_timeout=0.1))
    assert len(site.requests) == 3
    assert "\n" not in str(caught.value)


def test_progress_resets_the_count_of_retries(site: HttpSource, fetch: Fetch) -> None:
    down = Fault(status=503)
    site.faults = [down, down, Fault(cut_after=4_000), down, Fault(cut_after=4_000), down, FINE]

    assert fetch() == CONTENT


def test_wait_grows_with_each_failure(site: HttpSource, fetch: Fetch) -> None:
    site.faults = [Fault(status=503), Fault(status=503)]

    fetch(replace(SHORTEST_WAITS, longest_wait=10))

    assert site.gaps == [pytest.approx(0.5, abs=0.3), pytest.approx(1, abs=0.3)]


@pytest.mark.parametrize(("requested", "longest_wait", "expected"), [(0, 10, 0), (1, 10, 1), (3_600, 0.8, 0.8)])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_obeyed_up_to_the_longest_wait(
    site: HttpSource, fetch: Fetch, requested: int, longest_wait: float, expected: float, as_date: bool
) -> None:
    if as_date and requested == 1:
        requested, expected = 2, 1.5  # dates have whole seconds: this is 1 to 2 s from now
    value = formatdate(time.time() + requested, usegmt=True) if as_date else str(requested)
    site.faults = [Fault(status=429, headers={"Retry-After": value})]

    assert fetch(replace(SHORTEST_WAITS, longest_wait=longest_wait)) == CONTENT
    assert site.gaps == [pytest.approx(expected, abs=0.3 if expected != 1.5 else 0.7)]


def test_unreadable_retry_after_is_ignored(site: HttpSource, fetch: Fetch) -> None:
    site.faults = [Fault(status=503, headers={"Retry-After": "soon"})]

    assert fetch() == CONTENT


def test_redirect_loop_fails_without_retries(site: HttpSource, fetch: Fetch) -> None:
    site.later_fault = Fault(status=302, headers={"Location": "/file"})

    with pytest.raises(PipelineError, match=r"30 redirects; check \[source\] base_url"):
        fetch()
    assert len(site.requests) == 31


@pytest.mark.parametrize("status", [404, 410])
def test_missing_file_is_not_requested_again(site: HttpSource, fetch: Fetch, status: int) -> None:
    site.later_fault = Fault(status=status)

    with pytest.raises(FileNotPublished):
        fetch()
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [401, 451, 304, 204])
def test_refused_file_is_not_requested_again(site: HttpSource, fetch: Fetch, status: int) -> None:
    site.later_fault = Fault(status=status)

    with pytest.raises(PipelineError, match=rf"answered {status} .*check \[source\] base_url"):
        fetch()
    assert len(site.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_failed_connection_is_reported_in_one_line_with_a_remedy(
    part: PartialDownload, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(PipelineError) as caught:
        download(f"http://{host}:{free_port()}/file", part, SHORTEST_WAITS, silent)

    message = str(caught.value)
    assert f"no connection to {host}" in message
    assert "choose another [source] base_url" in message
    assert "make demo" in message
    assert "\n" not in message


@pytest.mark.parametrize("url", ["http://[oops/file", "http://:80/file", "http://host:99999/file", "http:///file"])
def test_invalid_url_is_refused_immediately(part: PartialDownload, url: str) -> None:
    started = time.monotonic()

    with pytest.raises(PipelineError, match=r"check \[source\] base_url"):
        download(url, part, replace(SHORTEST_WAITS, longest_wait=60), silent)
    assert time.monotonic() - started < 0.4


def test_credentials_in_the_url_are_sent_but_not_reported(
    site: HttpSource, part: PartialDownload, caplog: pytest.LogCaptureFixture
) -> None:
    site.faults = [Fault(status=401)]

    with pytest.raises(PipelineError) as refusal:
        download(site.url.replace("://", "://reader:s3cret@") + "/file", part, SHORTEST_WAITS, silent)

    assert site.requests[0].headers["Authorization"].startswith("Basic ")
    assert "s3cret" not in str(refusal.value) + caplog.text


@pytest.mark.parametrize(
    "fault", [Fault(trickle_head=0.02), Fault(continues=2_000), Fault(trickle_body=0.02)], ids=repr
)
def test_connection_that_is_too_slow_fails_after_the_retries(site: HttpSource, fetch: Fetch, fault: Fault) -> None:
    site.later_fault = fault

    with pytest.raises(PipelineError, match=r"tried 2 times") as failure:
        fetch(replace(SHORTEST_WAITS, retries=1, read_timeout=0.4, minimum_rate=10_000))
    assert "no complete response headers within 0.4 s" in str(failure.value) or "below [source] minimum_rate" in str(
        failure.value
    )


@pytest.mark.parametrize("fault", [Fault(), Fault(chunked=True)], ids=["with Content-Length", "chunked"])
def test_file_above_the_size_limit_is_refused(site: HttpSource, fetch: Fetch, fault: Fault) -> None:
    site.later_fault = fault

    with pytest.raises(PipelineError, match=r"raise .source. largest_file_mb"):
        fetch(replace(SHORTEST_WAITS, largest_file=9_000))


def test_download_above_the_time_limit_fails_and_the_next_run_resumes_it(site: HttpSource, fetch: Fetch) -> None:
    site.later_fault = Fault(trickle_body=0.01)
    with pytest.raises(
        TransientError, match=r"not finished after 1 s; run again .* raise .source. longest_download"
    ) as slow:
        fetch(replace(SHORTEST_WAITS, retries=0, longest_download=0.6))
    assert "\n" not in str(slow.value)

    site.later_fault = Fault()
    assert fetch() == CONTENT
    assert re.fullmatch(r"bytes=[1-9]\d*-", site.ranges[-1] or "")


def test_slow_download_writes_progress_to_the_log(
    site: HttpSource, part: PartialDownload, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(base, "_LOG_SECONDS", 0.05)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # which is not a terminal
    caplog.set_level(logging.INFO, "luigi-interface")
    site.files["/file"], site.later_fault = CONTENT[:60], Fault(trickle_body=0.005)

    with ExtractTripdata(taxi="green", month=JANUARY).progress("extract", "B", "verifying") as progress:
        download(f"{site.url}/file", part, SHORTEST_WAITS, progress)

    lines = [line for line in caplog.messages if "extract: 0.0 MB of 0.0 MB" in line]
    assert len(lines) > 1
    assert all(line.startswith("ExtractTripdata(taxi=green, month=2019-01") for line in lines)


@pytest.mark.parametrize("value", ["Fri, 31 Feb 2026 10:00:00 GMT", "Fri, 01 Jan 99999999 10:00:00 GMT", "-1", "1e9"])
def test_invalid_retry_after_is_ignored(site: HttpSource, fetch: Fetch, value: str) -> None:
    site.faults = [Fault(status=503, headers={"Retry-After": value})]

    assert fetch(replace(SHORTEST_WAITS, longest_wait=0.01))


@pytest.mark.parametrize("location", ["http://[::1", "http://\u00e9\u20ac:x/", "http://a:b:c/", "//", "http:///x"])
def test_redirect_to_an_invalid_url_is_reported_in_one_line(site: HttpSource, fetch: Fetch, location: str) -> None:
    site.later_fault = Fault(status=302, headers={"Location": location.encode().decode("latin-1")})

    with pytest.raises(PipelineError) as refused:
        fetch(replace(SHORTEST_WAITS, retries=0))
    assert "\n" not in str(refused.value)
