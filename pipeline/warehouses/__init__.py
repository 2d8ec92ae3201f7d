"""The protocol that every warehouse implements, and the registry of warehouses.

To add a warehouse, add a package below this one and a line to `WAREHOUSES`. The package is light to import and defines
`INFO`, which describes the warehouse to tasks and commands. Its module `warehouse` is imported on first use and defines
`configured()`, which returns the adapter.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.datasets import Dataset, Release
from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile
from pipeline.progress import Progress, silent
from pipeline.releases import AnyReleaseFile, open_release
from pipeline.warehouses.checksums import FileChecksums
from pipeline.warehouses.ledger import Build, LedgerEntry

if TYPE_CHECKING:
    from pipeline.warehouses.bigquery.objects import ReleaseObject

WAREHOUSES = {
    "postgres": "pipeline.warehouses.postgres",
    "bigquery": "pipeline.warehouses.bigquery",
}

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class WarehouseInfo:
    """Describes a warehouse without connecting to it or importing its libraries.

    `load_suffix` ends the names of its load tasks: `LoadTripdata` + `ToBigQuery`. `loads_objects` is true if it loads
    the object that `UploadTripdata` put into Cloud Storage instead of the extracted file. `install_hint` is the error
    message when the adapter's libraries are not installed. `exists` returns False if connecting would create the
    warehouse.
    """

    title: str
    is_configured: Callable[[], bool]
    load_suffix: str = ""
    loads_objects: bool = False
    install_hint: str = ""
    exists: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class LoadJob:
    """One release to load into any warehouse.

    `run_id` is stored with the load, so that a run with `replace` recognises its own work. `file` is the extracted
    file, or None if the warehouse loads the uploaded object, and `extracted` its metadata. With
    `ignore_unknown_columns`, columns that the spec does not declare are dropped even if they have values.
    """

    task_family: str
    release: Release
    run_id: str
    replace: bool = False
    file: Path | None = None
    extracted: ExtractedFile = field(default_factory=ExtractedFile)
    max_bad_rows: int = 0
    ignore_unknown_columns: bool = False

    def open_file(self) -> AnyReleaseFile:
        """Opens the extracted file."""
        assert self.file
        unknown, source = self.ignore_unknown_columns, self.extracted.source
        return open_release(self.file, self.release, source=source, ignore_unknown_columns=unknown)

    def origin(self, file: AnyReleaseFile) -> dict[str, Any]:
        """Returns what the ledger says about the origin of the rows of a file that was read to its end."""
        return {
            "source_url": self.extracted.source_url,
            "source_bytes": file.bytes_read,
            "source_sha256": file.sha256,
            "run_id": self.run_id,
            "source": self.extracted.source,
            "format": file.format,
            "etag": self.extracted.etag,
            "last_modified": self.extracted.last_modified,
        }


@dataclass(frozen=True)
class LoadObserver:
    """Callbacks that receive a load's progress, its status messages and the URL of its job."""

    progress: Progress = silent
    set_status: Callable[[str], None] = lambda _: None
    set_tracking_url: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class DbtProfile:
    """The target in `dbt/profiles.yml` to use, and the environment variables that it reads, secrets included."""

    target: str
    environment: Mapping[str, str]
    inherited: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    def process_environment(self) -> dict[str, str]:
        """Returns the complete environment of a dbt process that uses this profile."""
        return {**self.inherited, **self.environment}


class Warehouse(Protocol):
    """The interface to a warehouse for tasks, targets, commands and the report.

    Each method opens its own connection, because workers fork. Each raises PipelineError on failure, with a message of
    one line that says what to do.
    """

    def load(self, job: LoadJob, observer: LoadObserver) -> LedgerEntry:
        """Returns the release's marker once all of its rows are accounted for and visible; changes nothing on failure.

        Concurrent loads of one release load it once. With `replace`, an earlier edition is replaced atomically.
        """

    def forget(self, release: Release) -> bool:
        """Removes a release's rows, its quarantined rows and its markers; returns whether there was anything."""

    def orphaned_duplicates(self, dataset: Dataset) -> Mapping[str, int]:
        """Returns how many rows of a monthly dataset, by file, were set aside as duplicates of another file's rows and
        are missing now, because that file was forgotten or replaced by an edition without them."""

    def find_load(self, task_family: str, release: Release) -> LedgerEntry | None:
        """Returns the marker of a finished load, or None."""

    def find_loads(self, task_family: str, releases: Iterable[Release]) -> Mapping[str, LedgerEntry]:
        """Returns what `find_load` would find for each of the releases, by key, from one reading of the ledger."""

    def loaded(self) -> Sequence[LedgerEntry]:
        """Returns the markers of all loaded releases, ordered by table and month."""

    def checksums(self, release: Release) -> FileChecksums:
        """Returns a loaded release's row counts and checksums of ids and columns, by day."""

    def count_command(self, table: str) -> str:
        """Returns a shell command that counts a table's rows."""

    def dbt_profile(self) -> DbtProfile:
        """Returns how dbt connects to the warehouse."""

    def prepare_build(self, datasets: Iterable[Dataset]) -> None:
        """Creates the tables of these datasets if they are missing, and adds the columns that they lack."""

    def build_lock(self) -> AbstractContextManager[Callable[[], None]]:
        """Lets one build at a time write the models; released when the process dies.

        Yields a function that raises a TransientError if the lock was lost, so that another build may have started.
        """

    def last_build(self) -> Build | None:
        """Returns the record of the last build of the models, or None if there is none."""

    def foreign_relations(self, models: Collection[str], loaded: Collection[str]) -> list[str]:
        """Returns those tables and views with the name of a model or of a loaded table that others have created.

        The pipeline marks what it creates.
        """

    def has_relations(self, names: Collection[str]) -> bool:
        """Whether there is a table or view of each of these names beside the models."""

    def record_build(self, build: Build) -> None:
        """Replaces the record of the last build."""

    def select(self, query: str, marts: Iterable[str] = ()) -> Rows:
        """Returns the rows of a query in which `{name}` is replaced by each mart's full name."""


class ObjectStore(Protocol):
    """The bucket that a warehouse loads files from; implemented by adapters with `INFO.loads_objects`."""

    def missing_resources(self) -> list[str]:
        """Returns what `create_resources` would create."""

    def create_resources(self) -> list[str]:
        """Creates missing resources and returns what it created; idempotent and safe to run concurrently."""

    def find_object(self, release: Release) -> ReleaseObject | None:
        """Returns the object that the release was uploaded to, or None."""

    def upload(self, job: LoadJob, progress: Progress) -> ReleaseObject:
        """Returns the object once it exists with the checksum of the uncompressed extracted file."""


def warehouse_info(name: str) -> WarehouseInfo:
    """Returns the description of a registered warehouse."""
    info: WarehouseInfo = importlib.import_module(WAREHOUSES[name]).INFO
    return info


def warehouse_named(name: str) -> Warehouse:
    """Returns the adapter of a registered warehouse for the current settings.

    :raises PipelineError: if a setting is missing or invalid, or the adapter's libraries are not installed.
    """
    warehouse: Warehouse = _adapter(name).configured()
    return warehouse


def existing_warehouse(name: str) -> Warehouse | None:
    """Returns the adapter of a registered warehouse, or None if there is none yet and connecting would create it.

    :raises PipelineError: like `warehouse_named`.
    """
    return warehouse_named(name) if warehouse_info(name).exists() else None


def object_store() -> ObjectStore:
    """Returns the configured bucket.

    :raises PipelineError: like `warehouse_named`.
    """
    name = next(name for name in WAREHOUSES if warehouse_info(name).loads_objects)
    store: ObjectStore = _adapter(name).configured()
    return store


def _adapter(name: str) -> Any:
    try:
        return importlib.import_module(f"{WAREHOUSES[name]}.warehouse")
    except ModuleNotFoundError as error:
        hint = warehouse_info(name).install_hint
        if not hint or (error.name or "").startswith("pipeline"):
            raise
        raise PipelineError(hint) from None


def configured_warehouses() -> list[str]:
    """Returns the names of the warehouses whose required settings are set."""
    return [name for name in WAREHOUSES if warehouse_info(name).is_configured()]
