"""The adapter: it keeps row counts, the ledger and the last build in attributes."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from pipeline.datasets import Dataset, Release
from pipeline.warehouses import DbtProfile, LoadJob, LoadObserver, Rows
from pipeline.warehouses.checksums import FileChecksums
from pipeline.warehouses.ledger import Build, LedgerEntry, entries_of


class MemoryWarehouse:
    """Implements `Warehouse`, but only counts the rows of a file."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.ledger: dict[tuple[str, str], LedgerEntry] = {}
        self.build: Build | None = None

    def load(self, job: LoadJob, observer: LoadObserver) -> LedgerEntry:
        started_at = datetime.datetime.now(datetime.UTC)
        with job.open_file() as file:
            rows = sum(block.rows for block in file.blocks())
            observer.progress(rows, job.extracted.rows or None)
            entry = LedgerEntry(
                task_family=job.task_family,
                partition_key=job.release.key,
                target_table=job.release.table,
                rows_read=rows,
                rows_loaded=rows,
                rows_duplicate=0,
                rows_rejected=0,
                spec_version=job.release.dataset.version,
                started_at=started_at,
                finished_at=datetime.datetime.now(datetime.UTC),
                **job.origin(file),
            )
        self.rows[job.release.key] = rows
        self.ledger[job.task_family, job.release.key] = entry
        return entry

    def forget(self, release: Release) -> bool:
        for name in [name for name in self.ledger if name[1] == release.key]:
            del self.ledger[name]
        return self.rows.pop(release.key, None) is not None

    def orphaned_duplicates(self, dataset: Dataset) -> Mapping[str, int]:
        return {}

    def find_load(self, task_family: str, release: Release) -> LedgerEntry | None:
        return self.ledger.get((task_family, release.key))

    def find_loads(self, task_family: str, releases: Iterable[Release]) -> Mapping[str, LedgerEntry]:
        return entries_of(self.loaded(), task_family, releases)

    def loaded(self) -> Sequence[LedgerEntry]:
        return list(self.ledger.values())

    def checksums(self, release: Release) -> FileChecksums:
        return {}

    def count_command(self, table: str) -> str:
        return f"count {table}"

    def dbt_profile(self) -> DbtProfile:
        return DbtProfile("memory", {})

    def prepare_build(self, datasets: Iterable[Dataset]) -> None:
        pass

    @contextlib.contextmanager
    def build_lock(self) -> Iterator[Callable[[], None]]:
        yield lambda: None

    def last_build(self) -> Build | None:
        return self.build

    def foreign_relations(self, models: Collection[str], loaded: Collection[str]) -> list[str]:
        return []

    def has_relations(self, names: Collection[str]) -> bool:
        return True

    def record_build(self, build: Build) -> None:
        self.build = build

    def select(self, query: str, marts: Iterable[str] = ()) -> Rows:
        return []


_WAREHOUSE = MemoryWarehouse()


def configured() -> MemoryWarehouse:
    """The warehouse of this process."""
    return _WAREHOUSE
