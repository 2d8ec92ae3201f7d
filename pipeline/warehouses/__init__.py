"""Warehouses: where rows end up. One protocol, an adapter for each, and the registry that finds them.

A warehouse is a package below this one and a line in `WAREHOUSES`. Its package says in `INFO` what tasks and commands
need to know of it, and is light to import; its module `warehouse` has `configured()`, which returns the adapter and is
imported when the warehouse is first used.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.datasets import Dataset, Release, Source
from pipeline.errors import PipelineError
from pipeline.progress import Progress, silent
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
    """What is known of a warehouse without connecting to it, or importing its libraries.

    `load_suffix` ends the names of its load tasks: `LoadTripdata` + `ToBigQuery`. `loads_objects`: it loads what
    `UploadTripdata` put into Cloud Storage, not the extracted file itself. `missing_libraries`: what to do where the
    libraries that its adapter imports are not installed. `is_there`: whether it can be asked without that making it.
    """

    title: str
    is_configured: Callable[[], bool]
    load_suffix: str = ""
    loads_objects: bool = False
    missing_libraries: str = ""
    is_there: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class LoadJob:
    """One release to load, for whichever warehouse.

    `run_id` is noted with the load, so that a run with `replace` recognises its own work. `file` is the extracted file,
    None where the warehouse loads the uploaded object. `rows_expected` only serves the progress shown. `source` is
    where the file came from, None where that is not known; `etag` and `last_modified` are what its server said of it.
    `ignore_unknown_columns`: columns that the spec does not declare are left out, whatever is in them.
    """

    task_family: str
    release: Release
    run_id: str
    replace: bool = False
    file: Path | None = None
    source_url: str = ""
    rows_expected: int | None = None
    max_bad_rows: int = 0
    source: Source | None = None
    etag: str = ""
    last_modified: str = ""
    ignore_unknown_columns: bool = False


def _to_nobody(_: str) -> None:
    pass


@dataclass(frozen=True)
class LoadObserver:
    """Who is shown how far a load is, what it does, and where its work can be looked at."""

    progress: Progress = silent
    set_status: Callable[[str], None] = _to_nobody
    set_tracking_url: Callable[[str], None] = _to_nobody


@dataclass(frozen=True)
class DbtProfile:
    """The output of `dbt/profiles.yml` to use, and the environment that fills it in, secrets included."""

    target: str
    environment: Mapping[str, str]
    inherited: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    def process_environment(self) -> dict[str, str]:
        """The whole environment of a dbt that works with this profile."""
        return {**self.inherited, **self.environment}


class Warehouse(Protocol):
    """What tasks, targets, commands and the report ask of a warehouse. Methods connect anew: workers fork.

    Every method raises PipelineError, in one line that says what to do, when the warehouse cannot do its part.
    """

    def load(self, job: LoadJob, observer: LoadObserver) -> LedgerEntry:
        """Returns the release's marker once all of its rows are accounted for and visible; changes nothing on failure.

        Loads of one release at the same time load it once. With `replace`, an earlier edition gives way at once.
        """

    def forget(self, release: Release) -> bool:
        """Removes a release's rows, quarantined ones too, and its markers; says whether there was anything of it."""

    def find_load(self, task_family: str, release: Release) -> LedgerEntry | None:
        """The marker of a finished load, or None."""

    def loaded(self) -> Sequence[LedgerEntry]:
        """The markers of every release that is loaded, by table and month."""

    def marker_address(self, task_family: str, release: Release) -> str:
        """Where the marker is, as messages name it."""

    def checksums(self, release: Release) -> FileChecksums:
        """How many rows a loaded release has, which, and what is in every column, by day."""

    def count_command(self, table: str) -> str:
        """A shell command that counts a table's rows, for a person to paste."""

    def dbt_profile(self) -> DbtProfile:
        """How dbt connects to it."""

    def prepare_build(self, datasets: Iterable[Dataset]) -> None:
        """Returns when every table that the models of these datasets read is there."""

    def build_lock(self) -> AbstractContextManager[None]:
        """Lets one build at a time write the models; given up by the death of the process too."""

    def last_build(self) -> Build | None:
        """What the models were last built from, or None where they never were."""

    def relations_of_others(self, models: Collection[str]) -> list[str]:
        """Tables and views that have the name of a model, or of a loaded table that the models read, and are not it.

        They are recognised by the mark that the pipeline leaves in what it makes.
        """

    def record_build(self, build: Build) -> None:
        """Notes what the models are being, or were, built from, in the place of what was noted before."""

    def select(self, query: str, marts: Iterable[str] = ()) -> Rows:
        """The rows of a query in which `{name}` stands for each of the marts."""


class ObjectStore(Protocol):
    """What a warehouse offers besides, whose `INFO.loads_objects`: a bucket for the files that it loads."""

    def missing_resources(self) -> list[str]:
        """What `create_resources` would create; empty when all is there."""

    def create_resources(self) -> list[str]:
        """Creates what is missing and says what it created; harmless to repeat, or to run twice at once."""

    def find_object(self, release: Release) -> ReleaseObject | None:
        """The object that a release was uploaded as, or None."""

    def object_address(self, release: Release) -> str:
        """Where the object of a release is, or would be."""

    def upload(self, job: LoadJob, progress: Progress) -> ReleaseObject:
        """Returns the object once it is there and its checksum is that of the extracted file, uncompressed."""


def warehouse_info(name: str) -> WarehouseInfo:
    """What is known of a registered warehouse."""
    info: WarehouseInfo = importlib.import_module(WAREHOUSES[name]).INFO
    return info


def warehouse_named(name: str) -> Warehouse:
    """The adapter of a registered warehouse, as the settings of now describe it.

    :raises PipelineError: when a setting is missing or cannot be, or the adapter's libraries are not installed.
    """
    warehouse: Warehouse = _adapter(name).configured()
    return warehouse


def object_store() -> ObjectStore:
    """The configured bucket.

    :raises PipelineError: as `warehouse_named`.
    """
    name = next(name for name in WAREHOUSES if warehouse_info(name).loads_objects)
    store: ObjectStore = _adapter(name).configured()
    return store


def _adapter(name: str) -> Any:
    try:
        return importlib.import_module(f"{WAREHOUSES[name]}.warehouse")
    except ModuleNotFoundError as error:
        remedy = warehouse_info(name).missing_libraries
        if not remedy or (error.name or "").startswith("pipeline"):
            raise
        raise PipelineError(remedy) from None


def configured_warehouses() -> list[str]:
    """The names of the warehouses that the settings say enough of to be asked."""
    return [name for name in WAREHOUSES if warehouse_info(name).is_configured()]
