"""Uploads release files as objects: uncompressed CSV, once per content, with metadata about the source file."""

from __future__ import annotations

import base64
import contextlib
import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import google_crc32c
from google.api_core import exceptions
from google.cloud.storage import Blob, Bucket

from pipeline.datasets import Release
from pipeline.errors import PipelineError, TransientError
from pipeline.progress import Progress
from pipeline.releases import AnyReleaseFile
from pipeline.releases.csv_file import CsvReleaseFile
from pipeline.releases.csv_records import Block, CsvValues, InvalidRecord, Record, bad_row_error
from pipeline.warehouses import LoadJob
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.error_messages import first_line

CHUNK_BYTES = 8 << 20  # resumable uploads require a multiple of 256 KiB; bounds the memory used
_ATTEMPTS = 3
_CONTENDED = "other uploads keep changing it; run again when they have finished"
_OPTIONAL_METADATA = ("run_id", "source", "format", "etag", "last_modified")  # objects of earlier versions lack them


@dataclass(frozen=True)
class ReleaseObject:
    """An object and its metadata about the release file; `columns` are in the object's order."""

    uri: str
    generation: int
    bytes: int
    crc32c: str
    source_url: str
    source_bytes: int
    source_sha256: str
    rows: int | None
    columns: tuple[str, ...]
    run_id: str = ""
    source: str = ""
    format: str = ""
    etag: str = ""
    last_modified: str = ""


def upload(project: GoogleProject, job: LoadJob, progress: Progress) -> ReleaseObject:
    """Returns the object once it exists with the checksum (CRC32C) of the release's text.

    The upload is resumable, in chunks of 8 MiB. A CSV file is decompressed and its values are checked as for
    PostgreSQL; the rows of a Parquet file are converted to CSV. Existing content is not uploaded again. Of two
    concurrent uploads, one succeeds and the other checks the result. A failed upload leaves no object.

    https://cloud.google.com/storage/docs/resumable-uploads, https://cloud.google.com/storage/docs/request-preconditions

    :raises PipelineError: if the file has changed, a row is malformed (with line and column), the object belongs to
        another dataset, or Cloud Storage rejects the upload.
    """
    failure = f"gs://{project.bucket}/{job.release.filename} was not uploaded"
    metadata, crc32c, size = _scan_file(job)
    problem = _CONTENDED
    with project.connect_bucket(failure) as bucket:
        for _ in range(_ATTEMPTS):
            existing = _get_blob(bucket, job.release)
            if existing is not None and existing.crc32c == crc32c and not job.replace:
                return _release_object(existing)
            blob = bucket.blob(job.release.filename, chunk_size=CHUNK_BYTES)
            blob.metadata, blob.crc32c = metadata, crc32c  # Cloud Storage rejects other content
            try:
                with job.open_file() as file:
                    blob.upload_from_file(
                        _ContentStream(_csv_text(file), size, progress),
                        content_type="text/csv",
                        checksum="crc32c",
                        if_generation_match=int(existing.generation) if existing is not None else 0,
                    )
                return _release_object(blob)
            except exceptions.PreconditionFailed:  # another upload was first, or the response to this one was lost
                if (now := _get_blob(bucket, job.release)) is not None and now.crc32c == crc32c:
                    return _release_object(now)
            except (exceptions.ResumeIncomplete, ValueError) as error:  # it does not go on after a part of a chunk
                problem = f"{first_line(str(error)).rstrip('.')}; run again"
    raise TransientError(f"{failure}: {problem}")


def find_object(project: GoogleProject, release: Release) -> ReleaseObject | None:
    """Returns the object of the release, or None.

    :raises PipelineError: if the pipeline did not upload it, or uploaded it for another dataset.
    """
    with project.connect_bucket(f"gs://{project.bucket}/{release.filename}") as bucket:
        blob = _get_blob(bucket, release)
        return None if blob is None else _release_object(blob)


def remove_object(project: GoogleProject, release: Release) -> bool:
    """Deletes the object of a release; returns whether there was one. Keeps an object of another dataset.

    A bucket with Object Versioning keeps what is deleted as a noncurrent version.

    :raises TransientError: if other uploads keep replacing it.
    """
    failure = f"gs://{project.bucket}/{release.filename} was not removed"
    with project.connect_bucket(failure) as bucket:
        for _ in range(_ATTEMPTS):
            blob = bucket.get_blob(release.filename)
            if blob is None or _dataset_of(blob, release) != release.dataset.name:
                return False
            # Not Blob.delete(), which deletes the version that was looked up even if it is not the current one.
            with contextlib.suppress(exceptions.NotFound, exceptions.PreconditionFailed):
                bucket.delete_blob(blob.name, if_generation_match=int(blob.generation))
                return True
    raise TransientError(f"{failure}: {_CONTENDED}")


def _get_blob(bucket: Bucket, release: Release) -> Blob | None:
    blob = bucket.get_blob(release.filename)
    if blob is not None and (owner := _dataset_of(blob, release)) != release.dataset.name:
        raise PipelineError(
            f"gs://{bucket.name}/{release.filename} contains a file of the dataset {owner}, and the file of"
            f" {release.dataset.name} has the same name; choose another [gcp] bucket for one of them"
        )
    return blob


def _dataset_of(blob: Blob, release: Release) -> str:
    return str((blob.metadata or {}).get("dataset") or release.dataset.name)  # earlier versions did not store it


def _csv_text(file: AnyReleaseFile) -> Iterator[bytes]:
    """Yields a CSV file's text unchanged, except that whole numbers such as `2.0` become `2`; other formats as CSV.

    :raises PipelineError: also if a value does not have the format that is accepted for PostgreSQL: BigQuery rejects
        some of these values and gives others another meaning.
    """
    if not isinstance(file, CsvReleaseFile):
        yield from file.csv_text()
        return
    yield file.header
    values = CsvValues(file.dataset, file.columns)
    for block in file.blocks():
        is_plain = values.match_plain_shape(block.data) and _is_utf8(block.data)
        text = block.data if is_plain else _checked(file.label, values, block)
        yield text.removesuffix(file.added_newline)


def _checked(label: str, values: CsvValues, block: Block) -> bytes:
    def reject(record: Record, invalid: InvalidRecord, remaining: Iterator[Record]) -> None:
        detail = invalid.detail + values.describe_further_invalid(remaining)
        raise bad_row_error(label, record.line_number, detail, "uploaded")

    return b"".join(record.data for record in values.valid_records(block, reject))


def _is_utf8(data: bytes) -> bool:
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def _scan_file(job: LoadJob) -> tuple[dict[str, str], str, int]:
    """Reads the file before the upload; returns the metadata, and the checksum and length of the text."""
    with job.open_file() as file:
        crc32c, size = google_crc32c.Checksum(), 0
        for piece in _csv_text(file):
            crc32c.update(piece)
            size += len(piece)
        metadata = job.origin(file) | {
            "source_bytes": str(file.bytes_read),  # Cloud Storage stores metadata as text
            "rows": str(job.extracted.rows or ""),
            "columns": ",".join(file.columns),
            "uploaded_at": datetime.datetime.now(datetime.UTC).isoformat(),
            "dataset": job.release.dataset.name,
        }
    return metadata, base64.b64encode(crc32c.digest()).decode(), size


def _release_object(blob: Blob) -> ReleaseObject:
    metadata = blob.metadata or {}
    uri = f"gs://{blob.bucket.name}/{blob.name}"
    try:
        return ReleaseObject(
            uri=uri,
            generation=int(blob.generation),
            bytes=int(blob.size),
            crc32c=str(blob.crc32c),
            source_url=metadata["source_url"],
            source_bytes=int(metadata["source_bytes"]),
            source_sha256=metadata["source_sha256"],
            rows=int(metadata["rows"]) if metadata["rows"] else None,
            columns=tuple(metadata["columns"].split(",")),
            **{key: metadata.get(key, "") for key in _OPTIONAL_METADATA},
        )
    except (KeyError, ValueError):
        raise PipelineError(
            f"{uri} was not uploaded by this pipeline; remove it, or choose another [gcp] bucket"
        ) from None


class _ContentStream:
    """A file-like object over pieces of text, for an upload that reads it once."""

    def __init__(self, pieces: Iterator[bytes], size: int, progress: Progress):
        self._pieces, self._size, self._progress = pieces, size, progress
        self._pending, self._position = bytearray(), 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        while len(self._pending) < size and (piece := next(self._pieces, b"")):
            self._pending += piece
        data = bytes(self._pending[:size])
        del self._pending[:size]
        self._position += len(data)
        self._progress(self._position, self._size)
        return data
