"""Uploads to Cloud Storage: a file is uploaded unchanged and once, also when requests fail, and never in part."""

from __future__ import annotations

import base64
import contextlib
import gzip
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest
from conftest import CHECKOUT, JANUARY
from gcp import GoogleCloud
from gcp_trips import FILE
from trips import COLUMNS, HEADER, UNEXPECTED_FORMATS, trip, trips

from pipeline.datasets import Release, dataset_named
from pipeline.errors import PipelineError, TransientError
from pipeline.extract import ExtractedFile
from pipeline.progress import Progress, silent
from pipeline.warehouses import LoadJob
from pipeline.warehouses.bigquery import objects
from pipeline.warehouses.bigquery.objects import ReleaseObject, upload

CHUNK = 256 << 10  # the smallest that Cloud Storage allows
START, CHUNKS = r"^POST /upload/", r"^PUT /upload/"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "CHUNK_BYTES", CHUNK)


UPLOAD_AND_MEASURE = """
import datetime, resource, sys
from pathlib import Path
from google.cloud import storage
from pipeline.datasets import Release, dataset_named
from pipeline.progress import silent
from pipeline.warehouses import LoadJob
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.objects import upload

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
project, bucket, file = sys.argv[1:]
job = LoadJob("UploadTripdata", Release(dataset_named("green"), datetime.date(2019, 1, 1)), "test", file=Path(file))
print(upload(GoogleProject(project, "US", bucket, "tlc", 0), job, silent).bytes)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def release_job(folder: Path, content: bytes) -> LoadJob:
    """The upload job of a gzipped release file with this content."""
    file = folder / f"{FILE}.gz"
    file.write_bytes(gzip.compress(content, 1))
    release, url = Release(dataset_named("green"), JANUARY), "https://example.org/green.csv.gz"
    return LoadJob("UploadTripdata", release, "test", file=file, extracted=ExtractedFile(source_url=url, rows=3))


def content_of(size: int) -> bytes:
    """A CSV file of `size` bytes without a newline at its end, in which no two chunks are equal."""
    start = HEADER + b"\r\n"
    rows = max(0, (size - len(start)) // (len(trip(0)) + 2) - 1)
    start = b"\r\n".join([HEADER, *trips(rows), b""])
    if len(start) == size:
        return start
    return start + trip(rows, store_and_fwd_flag="N" * (size - len(start) - len(trip(0)) + 1))


@pytest.mark.parametrize("size", [len(HEADER) + 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_object_is_the_decompressed_file(prepared_cloud: GoogleCloud, tmp_path: Path, size: int) -> None:
    job, content = release_job(tmp_path, content_of(size)), content_of(size)
    seen: list[tuple[int, int | None]] = []

    uploaded = upload(prepared_cloud.project, job, lambda done, total: seen.append((done, total)))

    assert prepared_cloud.content(FILE) == content and len(content) == size
    assert uploaded.uri == f"gs://{prepared_cloud.project.bucket}/{FILE}"
    assert uploaded.crc32c == base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
    assert (uploaded.bytes, uploaded.rows, uploaded.source_url) == (size, 3, job.extracted.source_url)
    assert uploaded.source_bytes == job.file.stat().st_size
    assert uploaded.columns == tuple(column.name for column in COLUMNS)
    assert seen[-1] == (size, size)


def test_uploaded_content_is_not_uploaded_again(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    job = release_job(tmp_path, content_of(1000))
    first = upload(prepared_cloud.project, job, silent)
    prepared_cloud.wire.requests.clear()

    assert upload(prepared_cloud.project, job, silent) == first
    assert prepared_cloud.wire.seen(START) == []
    assert upload(prepared_cloud.project, replace(job, replace=True), silent).generation > first.generation


@pytest.mark.parametrize("fault", [{"status": 503}, {"response_lost": True}, {"request_dropped": True}], ids=str)
@pytest.mark.parametrize(("request_of", "skip"), [(START, 0), (CHUNKS, 0), (CHUNKS, 2)])
def test_transient_failure_does_not_stop_the_upload(
    prepared_cloud: GoogleCloud, tmp_path: Path, request_of: str, skip: int, fault: dict[str, object]
) -> None:
    content = content_of(2 * CHUNK + 1000)
    prepared_cloud.wire.inject(request_of, skip=skip, **fault)

    upload(prepared_cloud.project, release_job(tmp_path, content), silent)

    assert prepared_cloud.content(FILE) == content


@pytest.mark.parametrize("headers", [{}, {"Range": f"bytes=0-{CHUNK - 1}"}], ids=["nothing", "first chunk"])
def test_upload_of_which_only_a_part_was_stored_begins_again(
    prepared_cloud: GoogleCloud, tmp_path: Path, headers: dict[str, str]
) -> None:
    """https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload"""
    content = content_of(2 * CHUNK + 1000)
    prepared_cloud.wire.inject(CHUNKS, skip=1, status=308, headers=headers)

    upload(prepared_cloud.project, release_job(tmp_path, content), silent)

    assert prepared_cloud.content(FILE) == content
    assert len(prepared_cloud.wire.seen(START)) == 2


def test_upload_of_which_again_only_a_part_is_stored_is_reported(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    prepared_cloud.wire.inject(CHUNKS, status=308, times=3)

    with pytest.raises(TransientError, match=r"was not uploaded: .*; run again$"):
        upload(prepared_cloud.project, release_job(tmp_path, content_of(CHUNK + 1000)), silent)

    assert prepared_cloud.objects() == []


def test_object_replaced_while_it_is_removed_is_removed(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    upload(prepared_cloud.project, release_job(tmp_path, content_of(1000)), silent)
    newer = release_job(tmp_path, content_of(2000))
    prepared_cloud.wire.inject("^DELETE ", action=lambda: upload(prepared_cloud.project, newer, silent))

    assert objects.remove_object(prepared_cloud.project, newer.release)

    assert prepared_cloud.objects() == []
    requests = prepared_cloud.wire.seen("^DELETE ")
    assert len(requests) == 2 and not any(re.search("[?&]generation=", request) for request in requests)


def test_refused_upload_is_reported_with_googles_message_and_a_remedy(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    prepared_cloud.wire.inject(START, status=403, reason="retentionPolicyNotMet", message="Object may not be replaced.")

    with pytest.raises(PipelineError) as failure:
        upload(prepared_cloud.project, release_job(tmp_path, content_of(1000)), silent)

    assert str(failure.value) == (
        f"gs://{prepared_cloud.project.bucket}/{FILE} was not uploaded: Object may not be replaced; choose a [gcp]"
        " bucket without retention and holds, as objects are replaced"
    )


def test_same_file_uploaded_by_another_process_at_the_same_time_is_reused(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    job = release_job(tmp_path, content_of(1000))
    theirs: list[ReleaseObject] = []

    ours = upload(prepared_cloud.project, job, once(lambda: theirs.append(upload(prepared_cloud.project, job, silent))))

    assert [ours] == theirs


def test_other_content_uploaded_by_another_process_at_the_same_time_is_replaced(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = release_job(tmp_path / "other", content_of(2000))

    upload(
        prepared_cloud.project,
        release_job(tmp_path, content_of(1000)),
        once(lambda: upload(prepared_cloud.project, other, silent)),
    )

    assert prepared_cloud.content(FILE) == content_of(1000)


def test_file_that_changes_while_it_is_uploaded_is_refused(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    job = release_job(tmp_path, content_of(1000))
    prepared_cloud.wire.inject(rf"^GET .*{FILE}", action=lambda: release_job(tmp_path, content_of(1001)))

    with pytest.raises(PipelineError, match=f"gs://{prepared_cloud.project.bucket}/{FILE} was not uploaded: .*"):
        upload(prepared_cloud.project, job, silent)
    assert prepared_cloud.objects() == []


@pytest.mark.parametrize(
    ("column", "value"), [each for values in UNEXPECTED_FORMATS.values() for each in values.items()]
)
def test_value_that_postgresql_does_not_accept_is_refused_before_the_upload(
    prepared_cloud: GoogleCloud, tmp_path: Path, column: str, value: str
) -> None:
    content = b"\r\n".join([HEADER, *trips(30), trip(30, **{column: value}), trip(31), b""])

    with pytest.raises(PipelineError, match=rf"{FILE}\.gz, line 32, column {column}: .*{re.escape(value)}.*--force"):
        upload(prepared_cloud.project, release_job(tmp_path, content), silent)
    assert prepared_cloud.objects() == []


def test_broken_file_leaves_no_object(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    job = release_job(tmp_path, content_of(3 * CHUNK))
    job.file.write_bytes(job.file.read_bytes()[:-100])

    with pytest.raises(PipelineError, match="the gzip stream is cut off"):
        upload(prepared_cloud.project, job, silent)
    assert prepared_cloud.objects() == []


def test_object_of_an_older_version_is_read(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    uploaded = upload(prepared_cloud.project, release_job(tmp_path, content_of(1000)), silent)
    with contextlib.closing(prepared_cloud.project.storage()) as client:
        blob = client.bucket(prepared_cloud.project.bucket).get_blob(FILE)
        blob.metadata = {name: value for name, value in blob.metadata.items() if name != "run_id"}
        blob.upload_from_string(blob.download_as_bytes())

    found = objects.find_object(prepared_cloud.project, Release(dataset_named("green"), JANUARY))
    assert found and replace(found, generation=uploaded.generation) == replace(uploaded, run_id="")


def test_object_that_the_pipeline_did_not_upload_is_left_alone(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    with contextlib.closing(prepared_cloud.project.storage()) as client:
        client.bucket(prepared_cloud.project.bucket).blob(FILE).upload_from_string("theirs")

    with pytest.raises(PipelineError, match="was not uploaded by this pipeline; remove it, or choose another"):
        objects.find_object(prepared_cloud.project, Release(dataset_named("green"), JANUARY))


def test_missing_bucket_is_reported(google_cloud: GoogleCloud, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"was not uploaded: .*; run SetupGcp, and check the names in"):
        upload(google_cloud.project, release_job(tmp_path, content_of(1000)), silent)


def test_memory_does_not_grow_with_the_file(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    file = tmp_path / FILE
    with file.open("wb") as lines:
        lines.write(HEADER + b"\r\n")
        lines.writelines([b"\r\n".join(trips(1000)) + b"\r\n"] * 1200)
    size = file.stat().st_size
    assert size > 100e6
    project = prepared_cloud.project
    arguments = [sys.executable, "-c", UPLOAD_AND_MEASURE, project.project, project.bucket, str(file)]
    done = subprocess.run(arguments, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=120)

    uploaded, growth = map(int, done.stdout.split())
    assert uploaded == size
    assert growth < 60e6  # three chunks of 8 MiB, and what the allocator keeps


def once(do: Callable[[], object]) -> Progress:
    """A progress callback that calls `do` when it is first called."""
    left = [do]

    def report(done: int, total: int | None) -> None:
        if left:
            left.pop()()

    return report
