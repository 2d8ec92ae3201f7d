"""Release files as objects: uncompressed CSV, uploaded once, each with the facts of the file that it was."""

from __future__ import annotations

import base64
import contextlib
import datetime
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import google_crc32c
from google.api_core import exceptions
from google.cloud.storage import Blob, Client

from pipeline.datasets import Release
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.releases import Block, CsvRelease, Record, open_release
from pipeline.releases.csv_values import CsvValues, InvalidRecord, bad_row_error
from pipeline.warehouses import LoadJob
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import translate_errors

CHUNK_BYTES = 8 << 20  # a multiple of 256 KiB, as resumable uploads demand; what of a file is in memory at most
_TRIES = 3


@dataclass(frozen=True)
class ReleaseObject:
    """An object and what its metadata say of the release file in it; `columns` are in the object's order."""

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
    source: str = ""
    format: str = ""
    etag: str = ""
    last_modified: str = ""


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
    dataset: str = ""  # from here on objects of earlier versions have none
    source: str = ""
    format: str = ""
    etag: str = ""
    last_modified: str = ""


def upload(project: GoogleProject, job: LoadJob, progress: Progress) -> ReleaseObject:
    """Returns the object once it is there and its checksum (CRC32C) is that of the release's text.

    The text goes into a resumable upload, 8 MiB at a time: a CSV file decompressed, its values judged as on the way to
    PostgreSQL; the rows of a Parquet file as canonical CSV. Content that is there already is not uploaded again. Of two
    uploads at once one wins, and the other looks again. An upload that breaks leaves nothing.

    https://cloud.google.com/storage/docs/resumable-uploads, https://cloud.google.com/storage/docs/request-preconditions

    :raises PipelineError: when the file is not what it was, when a row is malformed, naming its line and column, when
        the object is another dataset's, or when Cloud Storage refuses.
    """
    what = f"gs://{project.bucket}/{job.release.filename} was not uploaded"
    facts, crc32c, size = _read_through(job)
    with translate_errors(what), contextlib.closing(project.storage()) as client:
        for _ in range(_TRIES):
            there = _get(client, project, job.release)
            if there is not None and there.crc32c == crc32c and not job.replace:
                return _described(there)
            try:
                return _described(_stream(client, project, job, facts, crc32c, size, there, progress))
            except exceptions.PreconditionFailed:  # another upload was first, or the answer to ours was lost
                if (now := _get(client, project, job.release)) is not None and now.crc32c == crc32c:
                    return _described(now)
    raise PipelineError(f"{what}: others keep changing it; run again when they have finished")


def find_object(project: GoogleProject, release: Release) -> ReleaseObject | None:
    """The object that holds the release, or None.

    :raises PipelineError: when the pipeline did not upload it, or uploaded it for another dataset.
    """
    uri = f"gs://{project.bucket}/{release.filename}"
    with translate_errors(uri), contextlib.closing(project.storage()) as client:
        blob = _get(client, project, release)
        return None if blob is None else _described(blob)


def remove_object(project: GoogleProject, release: Release) -> bool:
    """Deletes the object of a release; says whether there was one. That of another dataset stays."""
    uri = f"gs://{project.bucket}/{release.filename}"
    with translate_errors(f"{uri} was not removed"), contextlib.closing(project.storage()) as client:
        blob = client.bucket(project.bucket).get_blob(release.filename)
        if blob is None or _dataset_of(blob, release) != release.dataset.name:
            return False
        try:
            blob.delete()
        except exceptions.NotFound:
            return False
    return True


def _get(client: Client, project: GoogleProject, release: Release) -> Blob | None:
    blob = client.bucket(project.bucket).get_blob(release.filename)
    if blob is not None and (owner := _dataset_of(blob, release)) != release.dataset.name:
        raise PipelineError(
            f"gs://{project.bucket}/{release.filename} holds a file of the dataset {owner}, and that of"
            f" {release.dataset.name} has the same name; choose another [gcp] bucket for one of them"
        )
    return blob


def _dataset_of(blob: Blob, release: Release) -> str:
    return str((blob.metadata or {}).get("dataset") or release.dataset.name)


def _open(job: LoadJob) -> Any:
    assert job.file
    return open_release(job.file, job.release, source=job.source, ignore_unknown_columns=job.ignore_unknown_columns)


def _text(file: Any) -> Iterator[bytes]:
    """A CSV file's text byte for byte, but a whole number such as `2.0` as `2`; the canonical text of any other.

    :raises PipelineError: when a value is not in the shape that PostgreSQL takes, too: BigQuery refuses some of these
        and reads others as something else.
    """
    if not isinstance(file, CsvRelease):
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


def _read_through(job: LoadJob) -> tuple[_Facts, str, int]:
    """What there is to know of the file before a byte of it is sent: its facts, its text's checksum and length."""
    with _open(job) as release:
        crc32c, size = google_crc32c.Checksum(), 0
        for piece in _text(release):
            crc32c.update(piece)
            size += len(piece)
        facts = _Facts(
            source_url=job.source_url,
            source_bytes=str(release.bytes_read),
            source_sha256=release.sha256,
            rows="" if job.rows_expected is None else str(job.rows_expected),
            columns=",".join(release.columns),
            uploaded_at=datetime.datetime.now(datetime.UTC).isoformat(),
            run_id=job.run_id,
            dataset=job.release.dataset.name,
            source=job.source.name if job.source else "",
            format=release.format,
            etag=job.etag,
            last_modified=job.last_modified,
        )
    return facts, base64.b64encode(crc32c.digest()).decode(), size


def _stream(
    client: Client,
    project: GoogleProject,
    job: LoadJob,
    facts: _Facts,
    crc32c: str,
    size: int,
    replaced: Blob | None,
    progress: Progress,
) -> Blob:
    blob = client.bucket(project.bucket).blob(job.release.filename, chunk_size=CHUNK_BYTES)
    blob.metadata, blob.crc32c = asdict(facts), crc32c  # Cloud Storage takes no other content for it
    with _open(job) as release:
        blob.upload_from_file(
            _Content(_text(release), size, progress),
            content_type="text/csv",
            checksum="crc32c",
            if_generation_match=int(replaced.generation) if replaced is not None else 0,
        )
    return blob


def _described(blob: Blob) -> ReleaseObject:
    metadata = blob.metadata or {}
    if not {field.name for field in fields(_Facts) if field.default is MISSING} <= metadata.keys():
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
        **{key: metadata.get(key, "") for key in ("source", "format", "etag", "last_modified")},
    )


class _Content:
    """A text in pieces as the stream that an upload reads once through, in chunks of its own size."""

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
