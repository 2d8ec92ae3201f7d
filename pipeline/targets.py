"""The Luigi targets of tasks: objects, pages, and markers in a warehouse's ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import luigi

from pipeline.datasets import Release
from pipeline.report import digest_in, report_digest
from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform.build import current_build
from pipeline.warehouses import object_store, warehouse_named
from pipeline.warehouses.ledger import Build, LedgerEntry

if TYPE_CHECKING:
    from pipeline.warehouses.bigquery.objects import ReleaseObject


class LoadMarker(luigi.Target):
    """The marker of a load in a warehouse's ledger; all rows of the release are visible when it exists."""

    def __init__(self, warehouse: str, task_family: str, release: Release):
        self.warehouse = warehouse
        self.task_family = task_family
        self.release = release

    def __str__(self) -> str:
        return f"marker of {self.task_family} {self.release.key} in {self.warehouse}"

    def entry(self) -> LedgerEntry | None:
        """Looks up the marker of the finished load."""
        return warehouse_named(self.warehouse).find_load(self.task_family, self.release)

    def exists(self) -> bool:
        return self.entry() is not None


class StoredObject(luigi.Target):
    """An uploaded release file in the bucket, uncompressed; uploads are atomic."""

    def __init__(self, release: Release):
        self.release = release

    def __str__(self) -> str:
        return f"{self.release.filename} in the bucket"

    def found(self) -> ReleaseObject | None:
        """Looks up the object and its metadata."""
        return object_store().find_object(self.release)

    def exists(self) -> bool:
        return self.found() is not None


class ModelsMarker(luigi.Target):
    """Exists if the dbt models in a warehouse were built from the current sources and loads."""

    def __init__(self, warehouse: str):
        self.warehouse = warehouse

    def __str__(self) -> str:
        return f"dbt models in {self.warehouse}"

    def build(self) -> Build | None:
        """Returns the current build, or None if the models are out of date."""
        return current_build(warehouse_named(self.warehouse), DbtSettings().variables())

    def exists(self) -> bool:
        return self.build() is not None


class ReportPage(luigi.Target):
    """The report's page; exists if it was made from the current build of the models."""

    def __init__(self, warehouse: str):
        self.warehouse = warehouse
        self.path = StorageSettings().report_page(warehouse)

    def __str__(self) -> str:
        return str(self.path)

    def digest(self) -> str | None:
        """Returns the digest of the current report, or None if the models are out of date."""
        build = ModelsMarker(self.warehouse).build()
        return report_digest(build.models_digest, build.loads_digest) if build else None

    def exists(self) -> bool:
        digest = self.digest()
        return digest is not None and digest == digest_in(self.path)
