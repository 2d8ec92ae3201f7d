"""The ledger of what is in BigQuery: a JSON object a file under `_ledger/` in the bucket."""

from __future__ import annotations

import contextlib
import datetime
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import GcpProject
from pipeline.warehouses.bigquery.google_errors import short_retry, translate_errors
from pipeline.warehouses.ledger import LedgerEntry

FOLDER = "_ledger"
_READERS = 8


@dataclass(frozen=True)
class GcpLedgerEntry(LedgerEntry):
    """A file in BigQuery, or on its way there while `finished_at` is None.

    `days` are those in which its rows may lie (None: rows without a time). `claim` names the load, and with it its
    jobs: whoever finds a load unfinished goes on with it. `generation` is the marker's own.
    """

    object_uri: str = ""
    object_generation: int = 0
    claim: str = ""
    days: tuple[datetime.date | None, ...] = ()
    jobs: tuple[str, ...] = ()
    generation: int = field(default=0, compare=False)

    @property
    def is_finished(self) -> bool:
        return self.finished_at is not None


def marker_name(task_family: str, partition_key: str) -> str:
    """The object that is the marker of one load."""
    return f"{FOLDER}/{task_family}/{partition_key}.json"


class ConcurrentUpdate(Exception):
    """The marker is not the one that was read any more: look again."""


@dataclass(frozen=True)
class GcpLedger:
    """The markers of a bucket."""

    project: GcpProject

    def find(self, task_family: str, partition_key: str) -> GcpLedgerEntry | None:
        """The marker of one load, finished or not; None when it has never been begun."""
        name = marker_name(task_family, partition_key)
        with self._translate_errors(name), contextlib.closing(self.project.storage()) as client:
            return _latest(client.bucket(self.project.bucket).get_blob(name, retry=short_retry()))

    def finished(self) -> list[GcpLedgerEntry]:
        """The markers of every file that is loaded, by table and month."""
        entries = filter(lambda entry: entry.is_finished, self._entries(".json"))
        return sorted(entries, key=lambda entry: (entry.target_table, entry.partition_key))

    def of_file(self, partition_key: str) -> list[GcpLedgerEntry]:
        """The markers of one file, finished or not, whichever tasks loaded it."""
        return self._entries(f"/{partition_key}.json")

    def _entries(self, suffix: str) -> list[GcpLedgerEntry]:
        with self._translate_errors(f"{FOLDER}/"), contextlib.closing(self.project.storage()) as client:
            names = client.list_blobs(self.project.bucket, prefix=f"{FOLDER}/Load")
            with ThreadPoolExecutor(_READERS) as readers:
                entries = list(readers.map(_latest, (blob for blob in names if blob.name.endswith(suffix))))
        return [entry for entry in entries if entry is not None]

    def write(self, entry: GcpLedgerEntry) -> GcpLedgerEntry:
        """Puts the entry in the place of the marker of its `generation` (0: of none) and returns it with its new one.

        :raises ConcurrentUpdate: when another worker wrote the marker in between.
        """
        from google.api_core import exceptions

        name = marker_name(entry.task_family, entry.partition_key)
        with self._translate_errors(name), contextlib.closing(self.project.storage()) as client:
            blob = client.bucket(self.project.bucket).blob(name)
            try:
                blob.upload_from_string(
                    _as_json(entry),
                    content_type="application/json",
                    checksum="crc32c",
                    if_generation_match=entry.generation,
                )
            except exceptions.PreconditionFailed:
                # It may be ours, when the answer to a first try was lost.
                now = client.bucket(self.project.bucket).get_blob(name)
                if now is not None and (found := _read(now)) == entry and found is not None:
                    return found
                raise ConcurrentUpdate from None
            return replace(entry, generation=int(blob.generation or 0))

    def remove(self, entry: GcpLedgerEntry) -> None:
        """Deletes the marker, unless another worker wrote it anew.

        :raises ConcurrentUpdate: when one did.
        """
        from google.api_core import exceptions

        name = marker_name(entry.task_family, entry.partition_key)
        with self._translate_errors(name), contextlib.closing(self.project.storage()) as client:
            bucket = client.bucket(self.project.bucket)
            try:
                bucket.delete_blob(name, if_generation_match=entry.generation)
            except exceptions.NotFound:
                return
            except exceptions.PreconditionFailed:
                if bucket.get_blob(name) is not None:
                    raise ConcurrentUpdate from None

    @contextlib.contextmanager
    def _translate_errors(self, name: str) -> Any:
        with translate_errors(f"the ledger gs://{self.project.bucket}/{name}"):
            yield


def _as_json(entry: GcpLedgerEntry) -> str:
    values = {name: value for name, value in asdict(entry).items() if name != "generation"}
    return json.dumps(values, default=lambda time: time.isoformat(), indent=2)


def _latest(blob: Any) -> GcpLedgerEntry | None:
    """A marker as it is now, however often it changes meanwhile; None when it is gone."""
    while blob is not None:
        if entry := _read(blob):
            return entry
        blob = blob.bucket.get_blob(blob.name)
    return None


def _read(blob: Any) -> GcpLedgerEntry | None:
    """A marker, or None when it is not there any more as it was when it was looked up."""
    from google.api_core import exceptions

    generation = int(blob.generation)  # a download sets it anew, from headers that may lack it
    try:
        values = json.loads(blob.download_as_bytes(if_generation_match=generation))
        for name in ("started_at", "finished_at"):
            values[name] = values[name] and datetime.datetime.fromisoformat(values[name])
        values["days"] = tuple(day and datetime.date.fromisoformat(day) for day in values["days"])
        return GcpLedgerEntry(**values | {"jobs": tuple(values["jobs"]), "generation": generation})
    except (exceptions.NotFound, exceptions.PreconditionFailed):
        return None
    except (ValueError, TypeError, KeyError):
        raise PipelineError(
            f"gs://{blob.bucket.name}/{blob.name} is not a marker of this pipeline; remove it and run again"
        ) from None
