"""Release files as objects: uncompressed CSV, uploaded once, each with the facts of the file that it was."""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.releases import CsvRelease, open_release
from pipeline.warehouses import LoadJob
from pipeline.warehouses.bigquery.client import GcpProject
from pipeline.warehouses.bigquery.google_errors import translate_errors

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

CHUNK_BYTES = 8 << 20  # a multiple of 256 KiB, as resumable uploads demand; what of a file is in memory at most
_TRIES = 3


@dataclass(frozen=True)
class ReleaseObject:
    """An object and what its metadata say of the release file in it; `columns` are in the file's order."""

    uri: str
    generation: int
    bytes: int
    crc32c: str
    source_url: str
    source_bytes: int
    source_sha256: str
    rows: int | None
    columns: tuple[str, ...]
    uploaded_at: datetime.datetime
    run_id: str


@dataclass(frozen=True)
class _Facts:
    """The metadata of a release object, all of them text as Cloud Storage has it."""

    source_url: str
    source_bytes: str
    source_sha256: str
    rows: str
    columns: str
    uploaded_at: str
    run_id: str


def upload(project: GcpProject, job: LoadJob, progress: Progress) -> ReleaseObject:
    """Returns the object once it is there and its checksum (CRC32C) is that of the decompressed file.

    The file is decompressed into a resumable upload, 8 MiB at a time. Content that is there already is not uploaded
    again. Of two uploads at once one wins, and the other looks again. An upload that breaks leaves nothing.

    https://cloud.google.com/storage/docs/resumable-uploads, https://cloud.google.com/storage/docs/request-preconditions

    :raises PipelineError: when the file is not what it was, or Cloud Storage refuses.
    """
    from google.api_core import exceptions

    what = f"gs://{project.bucket}/{job.release.filename} was not uploaded"
    facts, crc32c = _read_through(job)
    with translate_errors(what), contextlib.closing(project.storage()) as client:
        for _ in range(_TRIES):
            there = _get(client, project, job.release.filename)
            if there is not None and there.crc32c == crc32c and not job.replace:
                return _described(there)
            try:
                return _described(_stream(client, project, job, facts, crc32c, there, progress))
            except exceptions.PreconditionFailed:  # another upload was first, or the answer to ours was lost
                if (now := _get(client, project, job.release.filename)) is not None and now.crc32c == crc32c:
                    return _described(now)
    raise PipelineError(f"{what}: others keep changing it; run again when they have finished")


def find_object(project: GcpProject, name: str) -> ReleaseObject | None:
    """The release object of that name, or None.

    :raises PipelineError: when there is one that the pipeline did not upload.
    """
    with translate_errors(f"gs://{project.bucket}/{name}"), contextlib.closing(project.storage()) as client:
        blob = _get(client, project, name)
        return None if blob is None else _described(blob)


def remove_object(project: GcpProject, name: str) -> bool:
    """Deletes an object; says whether there was one."""
    from google.api_core import exceptions

    uri = f"gs://{project.bucket}/{name}"
    with translate_errors(f"{uri} was not removed"), contextlib.closing(project.storage()) as client:
        try:
            client.bucket(project.bucket).delete_blob(name)
        except exceptions.NotFound:
            return False
    return True


def _get(client: Client, project: GcpProject, name: str) -> Blob | None:
    return client.bucket(project.bucket).get_blob(name)


def _read_through(job: LoadJob) -> tuple[_Facts, str]:
    """What there is to know of the file before a byte of it is sent: its facts, and the checksum of its content."""
    import base64

    import google_crc32c

    assert job.file
    with open_release(job.file, job.release) as release:
        assert isinstance(release, CsvRelease)
        crc32c = google_crc32c.Checksum(release.header)
        while piece := release.read(CHUNK_BYTES):
            crc32c.update(piece)
        facts = _Facts(
            source_url=job.source_url,
            source_bytes=str(release.bytes_read),
            source_sha256=release.sha256,
            rows="" if job.rows_expected is None else str(job.rows_expected),
            columns=",".join(release.columns),
            uploaded_at=datetime.datetime.now(datetime.UTC).isoformat(),
            run_id=job.run_id,
        )
    return facts, base64.b64encode(crc32c.digest()).decode()


def _stream(
    client: Client,
    project: GcpProject,
    job: LoadJob,
    facts: _Facts,
    crc32c: str,
    replaced: Blob | None,
    progress: Progress,
) -> Blob:
    blob = client.bucket(project.bucket).blob(job.release.filename, chunk_size=CHUNK_BYTES)
    blob.metadata, blob.crc32c = asdict(facts), crc32c  # Cloud Storage takes no other content for it
    assert job.file
    with open_release(job.file, job.release) as release:
        assert isinstance(release, CsvRelease)
        blob.upload_from_file(
            _Content(release, int(facts.source_bytes), progress),
            content_type="text/csv",
            checksum="crc32c",
            if_generation_match=int(replaced.generation) if replaced is not None else 0,
        )
    return blob


def _described(blob: Blob) -> ReleaseObject:
    metadata = blob.metadata or {}
    if not {field.name for field in fields(_Facts)} <= metadata.keys():
        raise PipelineError(
            f"gs://{blob.bucket.name}/{blob.name} was not uploaded by this pipeline; remove it, or choose another"
            " [gcp] bucket"
        )
    return ReleaseObject(
        uri=f"gs://{blob.bucket.name}/{blob.name}",
        generation=int(blob.generation),
        bytes=int(blob.size),
        crc32c=str(blob.crc32c),
        source_url=metadata["source_url"],
        source_bytes=int(metadata["source_bytes"]),
        source_sha256=metadata["source_sha256"],
        rows=int(metadata["rows"]) if metadata["rows"] else None,
        columns=tuple(metadata["columns"].split(",")),
        uploaded_at=datetime.datetime.fromisoformat(metadata["uploaded_at"]),
        run_id=metadata["run_id"],
    )


class _Content:
    """A release file's decompressed content, header included, as the stream that an upload reads once through."""

    def __init__(self, release: CsvRelease, source_bytes: int, progress: Progress):
        self._release, self._source_bytes, self._progress = release, source_bytes, progress
        self._position = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        start = b"" if self._position else self._release.header
        data = start + self._release.read(size - len(start))
        self._position += len(data)
        self._progress(self._release.bytes_read, self._source_bytes)
        return data
