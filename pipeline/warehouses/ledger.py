"""What every warehouse keeps of its loads and of the builds of its models."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

ADOPTED = "adopted"


@dataclass(frozen=True)
class LedgerEntry:
    """One loaded release. `rows_read = rows_loaded + rows_duplicate + rows_rejected`.

    `run_id` names the run that loaded it: a run with `--force` recognises its own load by it, whatever clocks say.
    `source` and `format` say where the file came from (`mirror`, `tlc`) and what it was (`csv`, `parquet`); `etag` and
    `last_modified` are what its server said of that edition. All four are empty where they are not known. A `source` of
    `ADOPTED`: there was no file, the rows were taken over from a table that was there.
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
    def seconds(self) -> float:
        """How long the load took, 0 while it has not ended."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else 0.0


@dataclass(frozen=True)
class Build:
    """What the models in a warehouse were last built from. No `finished_at`: they are being built, or it failed.

    An empty `models_digest`: a rebuild of everything was started and has not ended, so rows may be of any models.
    `is_marked`: every relation of the models carries the mark by which `relations_of_others` recognises it, which
    builds of earlier versions did not set.
    """

    models_digest: str
    loads_digest: str
    started_at: datetime.datetime
    finished_at: datetime.datetime | None = None
    run_id: str = ""
    is_marked: bool = False

    def reflects(self, other: Build) -> bool:
        """Whether it is complete, and was made from the same models and the same loads."""
        same = (self.models_digest, self.loads_digest) == (other.models_digest, other.loads_digest)
        return same and self.finished_at is not None
