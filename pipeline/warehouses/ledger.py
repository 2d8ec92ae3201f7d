"""The records that every warehouse keeps of its loads and of the builds of its models."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.datasets import Release, parse_month

if TYPE_CHECKING:
    from pipeline.extract.availability import Edition

ADOPTED = "adopted"


@dataclass(frozen=True)
class LedgerEntry:
    """One loaded release. `rows_read = rows_loaded + rows_duplicate + rows_rejected`.

    `run_id` is the run that loaded it; a run with `--force` recognises its own load by it without comparing clocks.
    `source` is where the file came from (`mirror`, `tlc`) and `format` its format (`csv`, `parquet`); `etag` and
    `last_modified` are its server's headers. All four are empty if unknown. A `source` of `ADOPTED` means that the rows
    came from an existing table instead of a file.
    """

    task_family: str
    partition_key: str
    target_table: str
    source_url: str
    source_bytes: int
    source_sha256: str
    rows_read: int
    rows_loaded: int
    rows_duplicate: int
    rows_rejected: int
    spec_version: int
    started_at: datetime.datetime
    finished_at: datetime.datetime | None = None
    run_id: str = ""
    source: str = ""
    format: str = ""
    etag: str = ""
    last_modified: str = ""

    @property
    def dataset_name(self) -> str:
        """The name of the release's dataset, which need not be declared any more."""
        return self.partition_key.partition("/")[0]

    @property
    def month(self) -> datetime.date | None:
        """The release's month, or None if its dataset has no months."""
        _, is_monthly, month = self.partition_key.partition("/")
        return parse_month(month) if is_monthly else None

    @property
    def seconds(self) -> float:
        """The duration of the load, 0 until it has finished."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else 0.0

    def is_superseded_by(self, edition: Edition) -> bool:
        """Returns whether the edition that its source has now is not the loaded one.

        Another copy of the file, at another URL, has other headers, so that only its length is compared.
        """
        headers = (self.etag, self.last_modified) if edition.url in ("", self.source_url) else ("", "")
        return edition.differs_from(*headers, self.source_bytes)


Entry = TypeVar("Entry", bound=LedgerEntry)


def entries_of(ledger: Iterable[Entry], task_family: str, releases: Iterable[Release]) -> dict[str, Entry]:
    """Returns the entries of the releases that tasks of this family have loaded, by key."""
    keys = {release.key for release in releases}
    found = (entry for entry in ledger if entry.task_family == task_family and entry.partition_key in keys)
    return {entry.partition_key: entry for entry in found}


@dataclass(frozen=True)
class Build:
    """The last build of the models in a warehouse. `finished_at` is None while it runs and after a failure.

    An empty `models_digest` means that a full rebuild started and has not finished, so rows may come from any version
    of the models. `is_marked` is true if every relation of the models carries the mark that `foreign_relations` looks
    for; builds of earlier versions did not set it. `lookups_digest` is of the loads that are not of a month: the zones.
    """

    models_digest: str
    loads_digest: str
    started_at: datetime.datetime
    finished_at: datetime.datetime | None = None
    run_id: str = ""
    is_marked: bool = False
    lookups_digest: str = ""

    def reflects(self, other: Build) -> bool:
        """Returns whether this build has finished and was made from the same models and loads as the other."""
        same = (self.models_digest, self.loads_digest) == (other.models_digest, other.loads_digest)
        return same and self.finished_at is not None
