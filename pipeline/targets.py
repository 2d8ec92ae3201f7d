"""Targets: what says that a task is done. A file in place, or a marker in the warehouse's ledger."""

from __future__ import annotations

import contextlib
import datetime

import luigi

from pipeline.datasets import DatasetSpec
from pipeline.settings import postgres
from pipeline.warehouses.postgres import LedgerEntry, find_load
from pipeline.warehouses.postgres.tables import Tables


class PostgresMarker(luigi.Target):
    """A row in the ledger: the file's rows are in its table, all of them, committed together with this row."""

    def __init__(self, task_family: str, spec: DatasetSpec, month: datetime.date | None):
        self.task_family = task_family
        self.spec = spec
        self.month = month

    def __str__(self) -> str:
        return f"{postgres().schema}.load_ledger({self.task_family}, {self.spec.partition_key(self.month)})"

    def entry(self) -> LedgerEntry | None:
        """The marker's row, read anew on a connection of its own: workers fork, connections do not."""
        database = postgres().database()
        with contextlib.closing(database.connect()) as connection:
            ledger = Tables(database.schema, self.spec).ledger
            return find_load(connection, ledger, self.task_family, self.spec.partition_key(self.month))

    def exists(self) -> bool:
        return self.entry() is not None
