"""The models in BigQuery."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import lock_held
from pipeline.models.project import modelled_specs
from pipeline.warehouses.dbt_build import Build
from pipeline.warehouses.gcp import GcpProject
from pipeline.warehouses.ledger import LedgerEntry


@dataclass(frozen=True)
class BigQueryModels:
    """The models in one dataset, made from the tables of another or the same. Implements `ModelWarehouse`."""

    project: GcpProject
    dataset: str
    threads: int
    lock_file: Path

    @property
    def target(self) -> str:
        from pipeline.warehouses.gcp.credentials import service_account_key

        if self.project.is_bigquery_emulated:
            return "bigquery_emulator"
        return "bigquery_key" if service_account_key() else "bigquery"

    def environment(self) -> dict[str, str]:
        from pipeline.warehouses.gcp.credentials import service_account_key

        key = service_account_key() or {}
        return {
            "TLC_GCP_PROJECT": self.project.project,
            "TLC_GCP_LOCATION": self.project.location,
            "TLC_GCP_MAXIMUM_BYTES_BILLED": str(self.project.maximum_bytes_billed),
            "TLC_GCP_CLIENT_EMAIL": key.get("client_email", ""),
            "TLC_GCP_TOKEN_URI": key.get("token_uri", ""),
            "DBT_ENV_SECRET_GCP_PRIVATE_KEY": key.get("private_key", ""),
            "TLC_SCHEMA": self.dataset,
            "TLC_SOURCE_SCHEMA": self.project.dataset,
            "TLC_THREADS": str(self.threads),
        }

    def loads(self) -> Sequence[LedgerEntry]:
        from pipeline.warehouses.gcp.ledger import GcpLedger

        return GcpLedger(self.project).finished()

    def prepare(self) -> None:
        from pipeline.warehouses.gcp.dbt_build import copy_ledger
        from pipeline.warehouses.gcp.ledger import GcpLedger
        from pipeline.warehouses.gcp.schemas import ensure_tables

        with contextlib.closing(self.project.bigquery()) as client:
            for spec in modelled_specs():
                ensure_tables(client, self.project, spec)
        copy_ledger(self.project, GcpLedger(self.project).finished())

    def locked(self) -> contextlib.AbstractContextManager[None]:
        # Of this machine's builds; those of others are kept apart by a scheduler, through the task's resource.
        return lock_held(self.lock_file)

    def last_build(self) -> Build | None:
        from pipeline.warehouses.gcp.dbt_build import find_build

        return find_build(self.project, self.dataset)

    def record(self, build: Build) -> None:
        from pipeline.warehouses.gcp.dbt_build import record_build

        record_build(self.project, self.dataset, build)
