"""Downloads from an unreliable site: `pipeline/extract/download.py` with a real HTTP server."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from conftest import CONTENT, SHORTEST_WAITS, Fetch
from http_source import Fault, HttpSource, http_source

from pipeline.errors import PipelineError
from pipeline.extract.download import download
from pipeline.extract.partial_download import PartialDownload
from pipeline.progress import silent

OTHER_CONTENT = random.Random(2).randbytes(10_000)
LAST_MODIFIED = "Fri, 05 Mar 2021 10:00:00 GMT"


def leave_partial_download(site: HttpSource, fetch: Fetch, after: int = 4_000) -> None:
    """Leaves the partial download of a run that failed after so many bytes."""
    site.faults = [Fault(cut_after=after)]
    with pytest.raises(PipelineError):
        fetch(replace(SHORTEST_WAITS, retries=0))
    site.requests.clear()


def test_file_is_downloaded_unchanged_in_one_request(site: HttpSource, fetch: Fetch) -> None:
    assert fetch() == CONTENT
    assert [request.path for request in site.requests] == ["/file"]


def test_content_encoding_is_not_decoded(site: HttpSource, fetch: Fetch) -> None:
    site.later_fault = Fault(headers={"Content-Encoding": "x-gzip"})  # as some servers label .gz files

    assert fetch() == CONTENT
    assert site.requests[0].headers["Accept-Encoding"] == "identity"


def test_progress_of_a_resumed_download_includes_the_earlier_bytes(site: HttpSource, part: PartialDownload) -> None:
    site.files["/file"] = CONTENT
    site.faults = [Fault(cut_after=4_000)]
    reports: list[tuple[int, int | None]] = []

    download(f"{site.url}/file", part, SHORTEST_WAITS, lambda done, total: reports.append((done, total)))

    assert reports[-1] == (10_000, 10_000)
    assert (4_000, 10_000) in reports
    assert reports == sorted(reports)


@pytest.mark.parametrize("sent", [4_000, 1])
def test_interrupted_download_resumes_where_it_stopped(site: HttpSource, fetch: Fetch, sent: int) -> None:
    site.faults = [Fault(cut_after=sent)]

    assert fetch() == CONTENT
    assert site.ranges == [None, f"bytes={sent}-"]
    assert site.requests[1].headers["If-Range"] == '"first"'


def test_stalled_download_resumes_where_it_stopped(site: HttpSource, fetch: Fetch) -> None:
    site.faults = [Fault(stall_after=4_000)]

    assert fetch() == CONTENT
    assert site.ranges == [None, "bytes=4000-"]


def test_number_of_interruptions_is_unlimited_while_there_is_progress(site: HttpSource, fetch: Fetch) -> None:
    site.later_fault = Fault(cut_after=400)

    assert fetch(replace(SHORTEST_WAITS, retries=1, longest_wait=0)) == CONTENT
    assert len(site.requests) == 25


def test_interruptions_without_range_support_fail_after_the_retries(site: HttpSource, fetch: Fetch) -> None:
    site.supports_ranges = False
    site.later_fault = Fault(cut_after=400)

    with pytest.raises(PipelineError, match="tried 3 times"):
        fetch()
    assert len(site.requests) == 3


def test_interrupted_download_without_range_support_starts_over(site: HttpSource, fetch: Fetch) -> None:
    site.supports_ranges = False
    site.faults = [Fault(cut_after=4_000)]

    assert fetch() == CONTENT


@pytest.mark.parametrize(
    ("etag", "last_modified", "if_range"),
    [('W/"weak"', LAST_MODIFIED, LAST_MODIFIED), (None, LAST_MODIFIED, LAST_MODIFIED), ('W/"weak"', None, None)],
)
def test_download_resumes_only_with_a_strong_validator(
    site: HttpSource, fetch: Fetch, etag: str | None, last_modified: str | None, if_range: str | None
) -> None:
    site.etag, site.last_modified = etag, last_modified
    site.faults = [Fault(cut_after=4_000)]

    assert fetch() == CONTENT
    assert site.requests[1].headers.get("If-Range") == if_range
    assert site.ranges[1] == ("bytes=4000-" if if_range else None)


def test_next_run_resumes_the_download_of_a_failed_one(site: HttpSource, fetch: Fetch) -> None:
    leave_partial_download(site, fetch)

    assert fetch() == CONTENT
    assert site.ranges == ["bytes=4000-"]


def test_partial_download_from_another_source_is_not_resumed(
    site: HttpSource, fetch: Fetch, part: PartialDownload
) -> None:
    leave_partial_download(site, fetch)
    site.files["/elsewhere"] = OTHER_CONTENT

    download(f"{site.url}/elsewhere", part, SHORTEST_WAITS, silent)

    assert part.path.read_bytes() == OTHER_CONTENT
    assert site.ranges == [None]


@pytest.mark.parametrize("note", [None, "", "{", "[]", "{}"])
def test_partial_download_of_an_unknown_version_is_not_resumed(
    site: HttpSource, fetch: Fetch, part: PartialDownload, note: str | None
) -> None:
    part.path.write_bytes(b"unknown bytes")
    if note is not None:
        part.path.with_name("file.part.version").write_text(note)

    assert fetch() == CONTENT
    assert site.ranges == [None]


@pytest.mark.parametrize("supports_if_range", [True, False])
@pytest.mark.parametrize("validator", ["etag", "last_modified"])
def test_versions_of_a_file_that_changes_at_its_source_are_never_mixed(
    site: HttpSource, fetch: Fetch, validator: str, supports_if_range: bool
) -> None:
    site.etag = None
    setattr(site, validator, '"old"' if validator == "etag" else LAST_MODIFIED)
    leave_partial_download(site, fetch)
    site.files["/file"] = OTHER_CONTENT
    setattr(site, validator, '"new"' if validator == "etag" else "Sat, 06 Mar 2021 10:00:00 GMT")
    site.supports_if_range = supports_if_range

    assert fetch() == OTHER_CONTENT


def test_interrupted_download_of_a_changed_file_resumes_its_new_version(site: HttpSource, fetch: Fetch) -> None:
    leave_partial_download(site, fetch)
    site.files["/file"], site.etag = OTHER_CONTENT, '"new"'
    site.faults = [Fault(cut_after=1_000), Fault(cut_after=1_000)]

    assert fetch() == OTHER_CONTENT
    assert site.ranges == ["bytes=4000-", "bytes=1000-", "bytes=2000-"]


def test_download_of_a_file_that_became_shorter_starts_over(site: HttpSource, fetch: Fetch) -> None:
    leave_partial_download(site, fetch)
    site.files["/file"] = b"short"  # under the same ETag: the server answers 416

    assert fetch() == b"short"
    assert site.ranges == ["bytes=4000-", None]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(range_sent=(5_000, 9_999)),
        Fault(range_sent=(0, 9_999)),
        Fault(headers={"Content-Range": None}),
        Fault(headers={"Content-Range": "bytes 40000-9999/10000"}),
        Fault(headers={"Content-Range": "gibberish"}),
    ],
)
def test_response_with_a_wrong_range_starts_over(site: HttpSource, fetch: Fetch, fault: Fault) -> None:
    leave_partial_download(site, fetch)
    site.faults = [fault]

    assert fetch() == CONTENT
    assert site.ranges == ["bytes=4000-", None]


def test_rest_of_an_incompletely_sent_range_is_requested_again(site: HttpSource, fetch: Fetch) -> None:
    leave_partial_download(site, fetch)
    site.faults = [Fault(range_sent=(4_000, 5_999))]  # allowed by RFC 9110, 15.3.7

    assert fetch() == CONTENT
    assert site.ranges == ["bytes=4000-", "bytes=6000-"]


@pytest.mark.parametrize("status", [416, 206])
def test_server_that_never_sends_the_file_fails_the_download_after_the_retries(
    site: HttpSource, fetch: Fetch, status: int
) -> None:
    site.later_fault = Fault(status=status)

    with pytest.raises(PipelineError, match="tried 3 times"):
        fetch()
    assert len(site.requests) == 3


def test_redirect_to_another_server_is_followed_when_resuming_too(site: HttpSource, part: PartialDownload) -> None:
    site.files["/file"] = CONTENT
    with http_source() as front:
        front.later_fault = Fault(status=302, headers={"Location": f"{site.url}/file"})
        site.faults = [Fault(cut_after=4_000)]

        download(f"{front.url}/releases/file", part, SHORTEST_WAITS, silent)

    assert part.path.read_bytes() == CONTENT
    assert front.ranges == site.ranges == [None, "bytes=4000-"]


def test_chunked_body_needs_no_content_length(site: HttpSource, fetch: Fetch) -> None:
    site.later_fault = Fault(chunked=True)

    assert fetch() == CONTENT
    assert len(site.requests) == 1


def test_interrupted_chunked_body_resumes_where_it_stopped(
    site: HttpSource, fetch: Fetch, caplog: pytest.LogCaptureFixture
) -> None:
    site.faults = [Fault(chunked=True, cut_after=4_000)]
    site.later_fault = Fault(chunked=True)

    assert fetch() == CONTENT
    assert site.ranges == [None, "bytes=4000-"]
    assert "the connection broke (IncompleteRead" in caplog.text
