"""Reads and writes JSON objects under `_ledger/` in the bucket: copies of ledger rows, and records of builds.

In earlier versions these objects were the ledger; they are imported into the table when it is created.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from google.api_core import exceptions
from google.cloud.storage import Blob

from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import short_retry, translate_errors
from pipeline.warehouses.bigquery.ledger import COLUMNS, BigQueryEntry
from pipeline.warehouses.ledger import Build

FOLDER = "_ledger"
_READERS = 8


def marker_name(task_family: str, partition_key: str) -> str:
    """Returns the name of the object that is the marker of one load."""
    return f"{FOLDER}/{task_family}/{partition_key}.json"


def read_marker(project: GoogleProject, task_family: str, partition_key: str) -> BigQueryEntry | None:
    """Returns the marker of one load, or None if there is none."""
    name = marker_name(task_family, partition_key)
    with _bucket(project, name) as bucket:
        return _read_latest(bucket.get_blob(name, retry=short_retry()))


def read_markers(project: GoogleProject) -> list[BigQueryEntry]:
    """Returns the markers of all loads."""
    with _bucket(project, f"{FOLDER}/") as bucket:
        blobs = bucket.client.list_blobs(project.bucket, prefix=f"{FOLDER}/Load")
        with ThreadPoolExecutor(_READERS) as readers:
            entries = list(readers.map(_read_latest, (blob for blob in blobs if blob.name.endswith(".json"))))
    return [entry for entry in entries if entry is not None]


def write_marker(project: GoogleProject, entry: BigQueryEntry) -> None:
    """Writes the copy of a ledger row, replacing any earlier one."""
    _write(project, marker_name(entry.task_family, entry.partition_key), asdict(entry))


def remove_markers(project: GoogleProject, partition_key: str, ledger: Callable[[], Collection[str]]) -> bool:
    """Deletes the copies of a file's deleted ledger rows; returns whether there were any.

    `ledger` returns the ledger's load ids. It is called after the copies are listed, because a concurrent load may have
    written a new row and its copy.
    """
    with _bucket(project, f"{FOLDER}/") as bucket:
        blobs = bucket.client.list_blobs(project.bucket, prefix=f"{FOLDER}/Load")
        of_file = (blob for blob in blobs if blob.name.endswith(f"/{partition_key}.json"))
        found = [(blob.name, int(blob.generation), _read(blob)) for blob in of_file]
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
        blob = bucket.get_blob(name)
        text = None if blob is None else blob.download_as_bytes()
    if text is None:
        return None
    try:
        values = json.loads(text)
        times = {key: datetime.datetime.fromisoformat(at) for key, at in values.items() if key.endswith("_at") and at}
        return Build(**values | times)
    except (ValueError, TypeError, AttributeError):
        raise _not_a_marker(project.bucket, name) from None


def record_build(project: GoogleProject, dataset: str, build: Build) -> None:
    """Replaces the record of the last build of a dataset's models."""
    _write(project, _build_name(dataset), asdict(build))


def _build_name(dataset: str) -> str:
    return f"{FOLDER}/DbtBuild/{dataset}.json"


@contextlib.contextmanager
def _bucket(project: GoogleProject, name: str) -> Iterator[Any]:
    with (
        translate_errors(f"the ledger gs://{project.bucket}/{name}"),
        contextlib.closing(project.storage()) as client,
    ):
        yield client.bucket(project.bucket)


def _write(project: GoogleProject, name: str, values: dict[str, Any]) -> None:
    text = json.dumps(values, default=lambda time: time.isoformat(), indent=2)
    with _bucket(project, name) as bucket:
        bucket.blob(name).upload_from_string(
            text, content_type="application/json", checksum="crc32c", retry=short_retry()
        )


def _read_latest(blob: Blob | None) -> BigQueryEntry | None:
    """Reads the current version of a marker, or None if it was deleted."""
    while blob is not None:
        if entry := _read(blob):
            return entry
        blob = blob.bucket.get_blob(blob.name)
    return None


def _read(blob: Blob) -> BigQueryEntry | None:
    """Reads a marker, or returns None if it was changed or deleted since the lookup."""
    generation = int(blob.generation)  # a download overwrites it from headers that may lack it
    try:
        values = json.loads(blob.download_as_bytes(if_generation_match=generation))
        for name in ("started_at", "finished_at"):
            values[name] = values[name] and datetime.datetime.fromisoformat(values[name])
        values["days"] = tuple(day and datetime.date.fromisoformat(day) for day in values["days"])
        values["jobs"] = tuple(values["jobs"])
        values["load_id"] = values.get("load_id") or values["claim"]  # the name in earlier versions
        return BigQueryEntry(**{name: value for name, value in values.items() if name in COLUMNS})
    except (exceptions.NotFound, exceptions.PreconditionFailed):
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _not_a_marker(blob.bucket.name, blob.name) from None


def _not_a_marker(bucket: str, name: str) -> PipelineError:
    return PipelineError(f"gs://{bucket}/{name} is not a marker of this pipeline; remove it and run again")
