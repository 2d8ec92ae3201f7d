"""Markers: JSON objects under `_ledger/` in the bucket, copies of ledger rows and records of builds."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from google.api_core import exceptions
from google.cloud.storage import Blob, Bucket

from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import GoogleProject, short_retry
from pipeline.warehouses.ledger import Build, LedgerEntry

FOLDER = "_ledger"
_READERS = 8

Days = tuple[datetime.date | None, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class BigQueryEntry(LedgerEntry):
    """A file in BigQuery.

    `load_id` identifies the transaction that wrote the entry, also in its copy in the bucket. `days` are the days that
    its rows may have; None stands for rows without a time.
    """

    object_uri: str = ""
    object_generation: int = 0
    load_id: str = ""
    days: Days = ()
    jobs: tuple[str, ...] = ()


# The columns of the ledger and their types; days and jobs are JSON.
COLUMNS: Mapping[str, str] = {
    field.name: "TIMESTAMP" if "datetime.datetime" in str(field.type) else "INT64" if field.type == "int" else "STRING"
    for field in fields(BigQueryEntry)
}
_NULL = {"TIMESTAMP": None, "INT64": 0, "STRING": ""}


def entry_of(values: Mapping[str, Any]) -> BigQueryEntry:
    """Returns the entry with the values of a row or a marker; columns that were added later are missing or NULL."""
    found: dict[str, Any] = {
        name: _NULL[COLUMNS[name]] if value is None else value for name, value in values.items() if name in COLUMNS
    }
    for name in ("started_at", "finished_at"):
        if isinstance(found[name], str):
            found[name] = datetime.datetime.fromisoformat(found[name])
    for name in ("days", "jobs"):
        if isinstance(text := found.get(name, ""), str):
            found[name] = json.loads(text or "[]")
    found["days"] = tuple(day and datetime.date.fromisoformat(day) for day in found["days"])
    found["jobs"] = tuple(found["jobs"])
    return BigQueryEntry(**found)


def marker_name(task_family: str, partition_key: str) -> str:
    """Returns the name of the object that is the marker of one load."""
    return f"{FOLDER}/{task_family}/{partition_key}.json"


def read_marker(project: GoogleProject, task_family: str, partition_key: str) -> BigQueryEntry | None:
    """Returns the marker of one load, or None if there is none."""
    name = marker_name(task_family, partition_key)
    with _bucket(project, name) as bucket:
        return _read(bucket.blob(name), entry_of)


def read_markers(project: GoogleProject, names: Collection[str] | None = None) -> list[BigQueryEntry]:
    """Returns the markers of these names that exist, by default those of all loads."""
    with _bucket(project) as bucket:
        if names is None:
            names = [blob.name for blob in bucket.list_blobs(prefix=f"{FOLDER}/Load") if blob.name.endswith(".json")]
        with ThreadPoolExecutor(_READERS) as readers:
            # Not the listed versions, which may have been replaced meanwhile.
            found = readers.map(lambda name: _read(bucket.blob(name), entry_of), names)
            return [entry for entry in found if entry is not None]


def days_in_markers(project: GoogleProject, partition_key: str) -> set[datetime.date | None]:
    """Returns the days of a file's rows by its markers."""
    with _bucket(project) as bucket:
        found = (_read(blob, entry_of) for blob in _markers_of_file(bucket, partition_key))
        return {day for entry in found if entry for day in entry.days}


def write_marker(project: GoogleProject, entry: BigQueryEntry) -> None:
    """Writes the copy of a ledger row, replacing any earlier one."""
    _write(project, marker_name(entry.task_family, entry.partition_key), asdict(entry))


def remove_markers(project: GoogleProject, partition_key: str, ledger: Callable[[], Collection[str]]) -> bool:
    """Deletes the copies of a file's deleted ledger rows; returns whether there were any.

    `ledger` returns the ledger's load ids. It is called after the copies are listed, because a concurrent load may have
    written a new row and its copy.
    """
    with _bucket(project) as bucket:
        blobs = _markers_of_file(bucket, partition_key)
        found = [(blob.name, int(blob.generation), _read(blob, entry_of)) for blob in blobs]
        current = ledger() if found else ()
        outdated = [(name, generation) for name, generation, entry in found if entry and entry.load_id not in current]
        for name, generation in outdated:
            with contextlib.suppress(exceptions.NotFound, exceptions.PreconditionFailed):
                bucket.delete_blob(name, if_generation_match=generation)
    return bool(outdated)


def find_build(project: GoogleProject, dataset: str) -> Build | None:
    """Returns the record of the last build of a dataset's models, or None if there is none."""
    name = _build_name(dataset)
    with _bucket(project, name) as bucket:
        return _read(bucket.blob(name), _build_of)


def record_build(project: GoogleProject, dataset: str, build: Build) -> None:
    """Replaces the record of the last build of a dataset's models."""
    _write(project, _build_name(dataset), asdict(build))


def _build_of(values: dict[str, Any]) -> Build:
    times = {key: datetime.datetime.fromisoformat(at) for key, at in values.items() if key.endswith("_at") and at}
    return Build(**values | times)


def _build_name(dataset: str) -> str:
    return f"{FOLDER}/DbtBuild/{dataset}.json"


def _bucket(project: GoogleProject, name: str = "") -> contextlib.AbstractContextManager[Bucket]:
    return project.connect_bucket(f"the ledger gs://{project.bucket}/{name or FOLDER + '/'}")


def _markers_of_file(bucket: Bucket, partition_key: str) -> Iterator[Blob]:
    blobs = bucket.list_blobs(prefix=f"{FOLDER}/Load")
    return (blob for blob in blobs if blob.name.endswith(f"/{partition_key}.json"))


def _write(project: GoogleProject, name: str, values: dict[str, Any]) -> None:
    text = json.dumps(values, default=lambda time: time.isoformat(), indent=2)
    with _bucket(project, name) as bucket:
        bucket.blob(name).upload_from_string(
            text, content_type="application/json", checksum="crc32c", retry=short_retry()
        )


def _read(blob: Blob, parse: Callable[[dict[str, Any]], T]) -> T | None:
    """Returns what is in an object, or None if there is no such object."""
    try:
        return parse(json.loads(blob.download_as_bytes(retry=short_retry())))
    except exceptions.NotFound:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        name = f"gs://{blob.bucket.name}/{blob.name}"
        raise PipelineError(f"{name} is not a marker of this pipeline; remove it and run again") from None
