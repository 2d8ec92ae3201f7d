"""The task that verifies that both warehouses hold the same rows of a month."""

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
from pipeline.tasks.load import LOAD_TRIPDATA
from pipeline.warehouses import warehouse_named
from pipeline.warehouses.checksums import differences

_SHOWN = 10
_COMPARED = ("postgres", "bigquery")


class ReconcileTripdata(TripdataTask):
    """Compares a month's rows in PostgreSQL and BigQuery: row counts, ids and checksums of all columns, by day.

    Complete when the current loads have been compared and are equal.
    """

    force = luigi.BoolParameter(default=False, significant=False, description="compare again even if it was done")

    def requires(self) -> dict[str, luigi.Task]:
        return {name: LOAD_TRIPDATA[name](taxi=self.taxi, month=self.month) for name in _COMPARED}

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(StorageSettings().reconciled_file(self.release.key)))

    def complete(self) -> bool:
        try:
            result = json.loads(Path(self.output().path).read_text())
            run_id, loads = result["run_id"], result["loads"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # missing, or written by an earlier version
            return False
        return (not self.force or run_id == self.run_id) and bool(loads == self._loads())

    def run(self) -> None:
        loads = self._loads()
        postgres, bigquery = (warehouse_named(name).checksums(self.release) for name in _COMPARED)
        rows = sum(day.rows for day in postgres.values())
        if found := differences(postgres, bigquery):
            more = f"; and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
            raise PipelineError(
                f"{self.release.key} is not the same in PostgreSQL and BigQuery: {'; '.join(found[:_SHOWN])}{more}"
            )
        compared_at = datetime.datetime.now(datetime.UTC).isoformat()
        result = {
            "rows": rows,
            "days": len(postgres),
            "loads": loads,
            "run_id": self.run_id,
            "compared_at": compared_at,
        }
        with self.output().open("w") as file:
            json.dump(result, file, indent=2)
        same = f"the same {rows:,} rows in PostgreSQL and BigQuery, with the same values, on {len(postgres)} days"
        self.log_status(f"{self.release.key}: {same}")

    def _loads(self) -> dict[str, Any]:
        """Returns the start times of the current loads, by warehouse."""
        entries = {name: marker.find() for name, marker in self.input().items()}
        return {name: entry and entry.started_at.isoformat() for name, entry in entries.items()}
