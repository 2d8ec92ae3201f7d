"""Targets: what says that a task is done. A file or object in place, or a marker in a warehouse's ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import luigi

from pipeline.datasets import Release
from pipeline.report.digest import digest_in, report_digest
from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform.build import current_build
from pipeline.warehouses import object_store, warehouse_named
from pipeline.warehouses.ledger import Build, LedgerEntry

if TYPE_CHECKING:
    from pipeline.warehouses.bigquery.objects import ReleaseObject


class LoadMarker(luigi.Target):
    """A load's row in a warehouse's ledger: all of the release's rows are in its table, committed with the marker."""

    def __init__(self, warehouse: str, task_family: str, release: Release):
        self.warehouse = warehouse
        self.task_family = task_family
        self.release = release

    def __str__(self) -> str:
        return warehouse_named(self.warehouse).marker_address(self.task_family, self.release)

    def entry(self) -> LedgerEntry | None:
        """The marker of a finished load, looked up anew."""
        return warehouse_named(self.warehouse).find_load(self.task_family, self.release)

    def exists(self) -> bool:
        return self.entry() is not None


class StoredObject(luigi.Target):
    """A release file as an object in the bucket, uncompressed; it appears whole or not at all."""

    def __init__(self, release: Release):
        self.release = release

    def __str__(self) -> str:
        return object_store().object_address(self.release)

    def found(self) -> ReleaseObject | None:
        """The object with its facts, looked up anew."""
        return object_store().find_object(self.release)

    def exists(self) -> bool:
        return self.found() is not None


class ModelsMarker(luigi.Target):
    """What says that the dbt models in a warehouse reflect what is loaded there, and their own sources."""

    def __init__(self, warehouse: str):
        self.warehouse = warehouse

    def __str__(self) -> str:
        return f"dbt models in {self.warehouse}"

    def build(self) -> Build | None:
        """The build that made them so, or None when they are out of date."""
        return current_build(warehouse_named(self.warehouse), DbtSettings().variables())

    def exists(self) -> bool:
        return self.build() is not None


class ReportPage(luigi.Target):
    """The report's page, made from what the models hold now."""

    def __init__(self, warehouse: str):
        self.warehouse = warehouse
        self.path = StorageSettings().report_folder(warehouse) / "index.html"

    def __str__(self) -> str:
        return str(self.path)

    def digest(self) -> str | None:
        """The digest of what a page made now is made from; None while the models are out of date."""
        build = ModelsMarker(self.warehouse).build()
        return report_digest(build.models_digest, build.loads_digest) if build else None

    def exists(self) -> bool:
        digest = self.digest()
        return digest is not None and digest == digest_in(self.path)
