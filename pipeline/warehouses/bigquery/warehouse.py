"""The BigQuery adapter, which implements `Warehouse` and `ObjectStore`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets import Dataset, Release
from pipeline.errors import PipelineError
from pipeline.files import locked
from pipeline.progress import Progress
from pipeline.settings import DbtSettings, GcpSettings, StorageSettings
from pipeline.warehouses import DbtProfile, LoadJob, LoadObserver, Rows
from pipeline.warehouses.bigquery.client import GoogleProject, service_account_key
from pipeline.warehouses.bigquery.file_rows import FileRows
from pipeline.warehouses.bigquery.jobs import job_labels, query_config, run_query
from pipeline.warehouses.bigquery.ledger import ensure_ledger, read_loaded, read_snapshot
from pipeline.warehouses.bigquery.loading import forget, load, orphaned_duplicates
from pipeline.warehouses.bigquery.markers import (
    BigQueryEntry,
    days_in_markers,
    find_build,
    marker_name,
    read_marker,
    read_markers,
    record_build,
)
from pipeline.warehouses.bigquery.objects import ReleaseObject, find_object, upload
from pipeline.warehouses.bigquery.resources import LABELS, create_resources, missing_resources
from pipeline.warehouses.bigquery.sql_text import quoted
from pipeline.warehouses.bigquery.staging import sort_days
from pipeline.warehouses.bigquery.tables import ensure_tables, list_tables
from pipeline.warehouses.checksums import FileChecksums, checksums_from_rows
from pipeline.warehouses.ledger import Build, LedgerEntry, entries_of

# https://cloud.google.com/resource-manager/docs/creating-managing-projects (older ones are example.com:name),
# https://cloud.google.com/storage/docs/buckets#naming, https://cloud.google.com/bigquery/docs/datasets#dataset-naming
_NAMES = {
    "project": re.compile(r"[a-z0-9.:-]{1,80}"),
    "bucket": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
    "dataset": re.compile(r"\w{1,1000}", re.ASCII),
    "location": re.compile(r"[A-Za-z0-9-]+"),
}


def configured() -> BigQueryWarehouse:
    """Returns the adapter of the configured project.

    :raises PipelineError: if a setting is missing or is not a valid name.
    """
    project, dbt = _configured_project(), DbtSettings()
    dataset = dbt.schema or project.dataset
    return BigQueryWarehouse(project, dataset, dbt.threads, StorageSettings().dbt_folder() / f"{dataset}.lock")


def _configured_project() -> GoogleProject:
    """Returns the configured project, bucket and dataset.

    :raises PipelineError: if a setting is missing or is not a valid name.
    """
    settings = GcpSettings()
    for key, pattern in _NAMES.items():
        value = getattr(settings, key)
        if not value:
            raise PipelineError(f"[gcp] {key} is not set; set it in luigi.cfg or as PIPELINE__GCP__{key.upper()}")
        if not pattern.fullmatch(value):
            raise PipelineError(f"[gcp] {key}: {value!r} is not a valid name of a {key}")
    return GoogleProject(
        settings.project, settings.location, settings.bucket, settings.dataset, settings.maximum_bytes_billed
    )


@dataclass(frozen=True)
class BigQueryWarehouse:
    """A BigQuery dataset and its bucket, and the dataset of the marts. Implements `Warehouse` and `ObjectStore`."""

    project: GoogleProject
    marts_dataset: str
    dbt_threads: int
    lock_file: Path

    def load(self, job: LoadJob, observer: LoadObserver) -> LedgerEntry:
        return load(self.project, job, observer)

    def forget(self, release: Release) -> bool:
        return forget(self.project, release)

    def orphaned_duplicates(self, dataset: Dataset) -> Mapping[str, int]:
        return orphaned_duplicates(self.project, dataset)

    def find_load(self, task_family: str, release: Release) -> LedgerEntry | None:
        # The ledger is authoritative; if its copy is missing, the load is repeated, which only writes the copy.
        marker = read_marker(self.project, task_family, release.key)
        if marker is None or marker.target_table != release.table:  # the dataset had another table: Load refuses that
            return marker
        with self.project.connect_bigquery("the ledger cannot be read") as client:
            snapshot = read_snapshot(client, self.project, release)
        entry = snapshot.entry(task_family) if snapshot else None
        return entry if entry and entry.load_id == marker.load_id else None

    def find_loads(self, task_family: str, releases: Iterable[Release]) -> Mapping[str, LedgerEntry]:
        entries = entries_of(self.loaded(), task_family, releases)
        copies = read_markers(self.project, [marker_name(task_family, key) for key in entries])
        load_ids = {copy.load_id for copy in copies}
        return {key: entry for key, entry in entries.items() if entry.load_id in load_ids}

    def loaded(self) -> Sequence[BigQueryEntry]:
        with self.project.connect_bigquery("the ledger cannot be read") as client:
            return read_loaded(client, self.project)

    def checksums(self, release: Release) -> FileChecksums:
        dataset, filename = release.dataset, release.filename
        with self.project.connect_bigquery(f"{release.key} was not compared") as client:
            snapshot = read_snapshot(client, self.project, release)
            if not snapshot or not snapshot.entries:
                raise PipelineError(f"{release.key} is not loaded into BigQuery")
            days = snapshot.days() or days_in_markers(self.project, release.key)
            query = FileRows(self.project, release, sort_days(days)).checksums_query()
            config = query_config(self.project, job_labels(dataset, filename, "reconcile"), filename=filename)
            return checksums_from_rows(dataset, [row.values() for row in run_query(client, query, config)])

    def count_command(self, table: str) -> str:
        query = f"select count(*) from {self.project.dataset}.{table}"
        return f"bq --project_id={self.project.project} query --use_legacy_sql=false '{query}'"

    def dbt_profile(self) -> DbtProfile:
        key = service_account_key()
        target = "bigquery_key" if key else "bigquery"
        key = key or {}
        environment = {
            "TLC_GCP_PROJECT": self.project.project,
            "TLC_GCP_LOCATION": self.project.location,
            "TLC_GCP_MAXIMUM_BYTES_BILLED": str(self.project.maximum_bytes_billed),
            "TLC_GCP_CLIENT_EMAIL": key.get("client_email", ""),
            "TLC_GCP_TOKEN_URI": key.get("token_uri", ""),
            "DBT_ENV_SECRET_GCP_PRIVATE_KEY": key.get("private_key", ""),
            "TLC_SCHEMA": self.marts_dataset,
            "TLC_SOURCE_SCHEMA": self.project.dataset,
            "TLC_THREADS": str(self.dbt_threads),
        }
        return DbtProfile("bigquery_emulator" if self.project.is_bigquery_emulated else target, environment)

    def prepare_build(self, datasets: Iterable[Dataset]) -> None:
        with self.project.connect_bigquery("the tables that the models read were not created") as client:
            ensure_ledger(client, self.project)
            for dataset in datasets:
                ensure_tables(client, self.project, dataset)

    @contextlib.contextmanager
    def build_lock(self) -> Iterator[Callable[[], None]]:
        # Locks builds on this machine only; a central scheduler keeps others apart by the task's resource.
        with locked(self.lock_file):
            yield lambda: None  # the lock of a file is not lost

    def last_build(self) -> Build | None:
        return find_build(self.project, self.marts_dataset)

    def foreign_relations(self, models: Collection[str], loaded: Collection[str]) -> list[str]:
        loads, marts = self.project.dataset, self.marts_dataset
        expected = {(loads, name) for name in loaded} | {(marts, name) for name in models}
        with self.project.connect_bigquery("the models' relations cannot be listed") as client:
            return [
                f"{dataset}.{table.table_id}"
                for dataset in sorted({loads, marts})
                for table in list_tables(client, self.project, dataset)
                if (dataset, table.table_id) in expected and not LABELS.items() <= table.labels.items()
            ]

    def has_relations(self, names: Collection[str]) -> bool:
        with self.project.connect_bigquery("the models' relations cannot be looked at") as client:
            return {*names} <= {table.table_id for table in list_tables(client, self.project, self.marts_dataset)}

    def record_build(self, build: Build) -> None:
        record_build(self.project, self.marts_dataset, build)

    def missing_resources(self) -> list[str]:
        return missing_resources(self.project)

    def create_resources(self) -> list[str]:
        return create_resources(self.project)

    def find_object(self, release: Release) -> ReleaseObject | None:
        return find_object(self.project, release)

    def upload(self, job: LoadJob, progress: Progress) -> ReleaseObject:
        return upload(self.project, job, progress)

    def select(self, query: str, marts: Iterable[str] = ()) -> Rows:
        names = {mart: quoted(f"{self.project.project}.{self.marts_dataset}.{mart}") for mart in marts}
        config = query_config(self.project, {"pipeline": "tlc", "step": "report"})
        with self.project.connect_bigquery("the report cannot be made") as client:
            return [dict(row) for row in run_query(client, query.format(**names), config)]
