"""The Luigi targets of tasks that do not only write a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import luigi

from pipeline.files import SQL
from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform import current_build
from pipeline.warehouses import warehouse_named
from pipeline.warehouses.ledger import Build

Found = TypeVar("Found")

_DIGEST = re.compile(r'<meta name="build" content="([^"]*)">')
_HEAD = 2000  # characters at the start of the report's page, which contain the digest


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
        """Returns the digest of the current report, or None if the models are out of date.

        It is of the models, the loads, and the report's own source files.
        """
        build = models_marker(self.warehouse).find()
        if build is None:
            return None
        digest = hashlib.sha256(f"{build.models_digest} {build.loads_digest}".encode())
        sources = Path(__file__).with_name("report").rglob("*.*")
        for file in sorted([*sources, *(SQL / "report").glob("*.sql")]):
            if file.suffix in {".py", ".html", ".css", ".js", ".json", ".sql"}:
                digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return digest.hexdigest()

    def exists(self) -> bool:
        digest = self.digest()
        return digest is not None and digest == self._written_digest()

    def _written_digest(self) -> str | None:
        """Returns the digest in the page, or None if there is no page or no digest."""
        try:
            with self.path.open() as file:
                found = _DIGEST.search(file.read(_HEAD))
        except FileNotFoundError:
            return None
        return found[1] if found else None
