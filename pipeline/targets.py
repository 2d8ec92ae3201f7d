"""The Luigi targets of tasks that do not only write a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import luigi

from pipeline.report import digest_in, digest_of
from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform import current_build
from pipeline.warehouses import warehouse_named
from pipeline.warehouses.ledger import Build

Found = TypeVar("Found")


class Lookup(luigi.Target, Generic[Found]):
    """Exists if `find` returns something, such as a load's marker in a ledger or an object in the bucket."""

    def __init__(self, name: str, find: Callable[[], Found | None]):
        self._name, self.find = name, find

    def __str__(self) -> str:
        return self._name

    def exists(self) -> bool:
        return self.find() is not None


def models_marker(warehouse: str) -> Lookup[Build]:
    """Returns the build of the dbt models in a warehouse; exists if it reflects their current sources and loads."""
    name = f"dbt models in {warehouse}"
    return Lookup(name, lambda: current_build(warehouse_named(warehouse), DbtSettings().variables()))


class ReportPage(luigi.Target):
    """The report's page; exists if it was made from the current build of the models, as the digest in it shows."""

    def __init__(self, warehouse: str):
        self.warehouse = warehouse
        self.path = StorageSettings().report_page(warehouse)

    def __str__(self) -> str:
        return str(self.path)

    def digest(self) -> str | None:
        """Returns the digest of the current report, or None if the models are out of date."""
        build = models_marker(self.warehouse).find()
        return None if build is None else digest_of(build)

    def exists(self) -> bool:
        digest = self.digest()
        return digest is not None and digest == digest_in(self.path)
