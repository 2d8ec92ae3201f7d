"""Targets: what says that a task is done. A file or object in place, or a marker in the warehouse's ledger."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING

import luigi

from pipeline.datasets import DatasetSpec
from pipeline.models import current_build
from pipeline.report.digest import digest_in, report_digest
from pipeline.settings import dbt, gcp, postgres, storage
from pipeline.warehouses.dbt_build import Build
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres import find_load
from pipeline.warehouses.postgres.ledger import ledger_table

if TYPE_CHECKING:
    from pipeline.warehouses.gcp.ledger import GcpLedgerEntry
    from pipeline.warehouses.gcp.objects import ReleaseObject


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
            return find_load(
                connection, ledger_table(database.schema), self.task_family, self.spec.partition_key(self.month)
            )

    def exists(self) -> bool:
        return self.entry() is not None


class GcsTarget(luigi.Target):
    """A release file as an object in the bucket, uncompressed; it appears whole or not at all."""

    def __init__(self, name: str):
        self.name = name

    def __str__(self) -> str:
        return f"gs://{gcp().bucket}/{self.name}"

    def found(self) -> ReleaseObject | None:
        """The object with its facts, looked up anew."""
        from pipeline.warehouses.gcp.objects import find_object

        return find_object(gcp().place(), self.name)

    def exists(self) -> bool:
        return self.found() is not None


class BigQueryMarker(luigi.Target):
    """An object under `_ledger/` in the bucket: the file's rows are in its BigQuery table, all of them."""

    def __init__(self, task_family: str, spec: DatasetSpec, month: datetime.date | None):
        self.task_family = task_family
        self.partition_key = spec.partition_key(month)

    def __str__(self) -> str:
        from pipeline.warehouses.gcp.ledger import marker_name

        return f"gs://{gcp().bucket}/{marker_name(self.task_family, self.partition_key)}"

    def entry(self) -> GcpLedgerEntry | None:
        """The marker of a load that is finished, looked up anew."""
        from pipeline.warehouses.gcp.ledger import GcpLedger

        entry = GcpLedger(gcp().place()).find(self.task_family, self.partition_key)
        return entry if entry and entry.is_finished else None

    def exists(self) -> bool:
        return self.entry() is not None


class ModelsMarker(luigi.Target):
    """What says that the dbt models in a warehouse reflect what is loaded there, and their own sources."""

    def __init__(self, warehouse: str):
        self.warehouse = warehouse

    def __str__(self) -> str:
        return f"dbt models in {self.warehouse}"

    def build(self) -> Build | None:
        """The build that made them so, or None when they are out of date."""
        return current_build(dbt().models_in(self.warehouse), dbt().variables())

    def exists(self) -> bool:
        return self.build() is not None


class ReportPage(luigi.Target):
    """The report's page, made from what the models hold now."""

    def __init__(self, warehouse: str):
        self.warehouse = warehouse
        self.path = storage().report_folder(warehouse) / "index.html"

    def __str__(self) -> str:
        return str(self.path)

    def digest(self) -> str | None:
        """The digest of what a page made now is made from; None while the models are out of date."""
        models = ModelsMarker(self.warehouse).build()
        return report_digest(models.models_digest, models.loads_digest) if models else None

    def exists(self) -> bool:
        digest = self.digest()
        return digest is not None and digest == digest_in(self.path)
