"""Reconcile: proof that both warehouses hold the same rows of a month."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import luigi
import luigi.local_target

from pipeline.errors import PipelineError
from pipeline.settings import StorageSettings
from pipeline.tasks.base import TripdataTask
from pipeline.tasks.load import load_tripdata
from pipeline.warehouses import warehouse_named
from pipeline.warehouses.checksums import differences

_SHOWN = 10
_COMPARED = ("postgres", "bigquery")


class ReconcileTripdata(TripdataTask):
    """Compares a month's rows in PostgreSQL and BigQuery: how many, which, and what is in every column, day by day.

    Complete when the two loads that are there now have been compared and found the same.
    """

    force = luigi.BoolParameter(default=False, significant=False, description="compare again what has been compared")

    def requires(self) -> dict[str, luigi.Task]:
        return {name: load_tripdata(name, self.taxi, self.month) for name in _COMPARED}

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(StorageSettings().reconciled_file(self.release.key)))

    def complete(self) -> bool:
        try:
            proof = json.loads(Path(self.output().path).read_text())
            run_id, loads = proof["run_id"], proof["loads"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or an earlier version's
            return False
        return (not self.force or run_id == self.run_id) and bool(loads == self._loads())

    def run(self) -> None:
        loads = self._loads()
        ours, theirs = (warehouse_named(name).checksums(self.release) for name in _COMPARED)
        rows = sum(day.rows for day in ours.values())
        if found := differences(ours, theirs, self.release.dataset):
            more = f"; and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
            raise PipelineError(
                f"{self.release.key} is not the same in PostgreSQL and BigQuery: {'; '.join(found[:_SHOWN])}{more}"
            )
        proof = {"rows": rows, "days": len(ours), "loads": loads, "run_id": self.run_id}
        with self.output().open("w") as file:
            json.dump(proof | {"compared_at": datetime.datetime.now(datetime.UTC).isoformat()}, file, indent=2)
        same = f"the same {rows:,} rows in PostgreSQL and BigQuery, every column of them, on {len(ours)} days"
        self.log_status(f"{self.release.key}: {same}")

    def _loads(self) -> dict[str, Any]:
        """Which loads the two warehouses hold."""
        entries = {name: marker.entry() for name, marker in self.input().items()}
        return {name: entry and entry.started_at.isoformat() for name, entry in entries.items()}
