"""What a ledger keeps of a loaded file, whichever warehouse the file is in."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class LedgerEntry:
    """One loaded file. `rows_read = rows_loaded + rows_duplicate + rows_rejected`."""

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

    @property
    def seconds(self) -> float:
        """How long the load took, 0 while it has not ended."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else 0.0
