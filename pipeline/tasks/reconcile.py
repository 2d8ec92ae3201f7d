"""Reconcile: proof that both warehouses hold the same rows of a month."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import luigi
import luigi.local_target

from pipeline.errors import PipelineError
from pipeline.settings import gcp, postgres, storage
from pipeline.tasks.load import LoadTripdata
from pipeline.tasks.load_bigquery import LoadTripdataToBigQuery
from pipeline.tasks.releases import TripdataTask

_SHOWN = 10


class ReconcileTripdata(TripdataTask):
    """Compares a month's rows in PostgreSQL and BigQuery: how many, which, and what is in every column, day by day.

    Complete when the two loads that are there now have been compared and found the same.
    """

    force = luigi.BoolParameter(default=False, significant=False, description="compare again what has been compared")

    def requires(self) -> dict[str, luigi.Task]:
        return {
            "postgres": LoadTripdata(taxi=self.taxi, month=self.month),
            "bigquery": LoadTripdataToBigQuery(taxi=self.taxi, month=self.month),
        }

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(storage().reconciled_file(self.spec.partition_key(self.month))))

    def complete(self) -> bool:
        try:
            proof = json.loads(Path(self.output().path).read_text())
        except (FileNotFoundError, ValueError):
            return False
        too_old = self.force and proof["compared_at"] < self.asked_at.isoformat()
        return not too_old and bool(proof["loads"] == self._loads())

    def run(self) -> None:
        from pipeline.warehouses.figures import differences
        from pipeline.warehouses.gcp import file_figures as in_bigquery
        from pipeline.warehouses.gcp.jobs import JobObserver
        from pipeline.warehouses.postgres import file_figures as in_postgres

        loads, entry = self._loads(), self.input()["bigquery"].entry()
        ours = in_postgres.file_figures(postgres().database(), self.spec, self.month)
        theirs = in_bigquery.file_figures(gcp().place(), self.spec, entry, JobObserver(self.tell, self.track))
        key, rows = self.spec.partition_key(self.month), sum(figures.rows for figures in ours.values())
        if found := differences(ours, theirs, self.spec):
            more = f"; and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
            raise PipelineError(f"{key} is not the same in PostgreSQL and BigQuery: {'; '.join(found[:_SHOWN])}{more}")
        with self.output().open("w") as file:
            compared_at = datetime.datetime.now(datetime.UTC).isoformat()
            json.dump({"rows": rows, "days": len(ours), "loads": loads, "compared_at": compared_at}, file, indent=2)
        same = f"the same {rows:,} rows in PostgreSQL and BigQuery, every column of them, on {len(ours)} days"
        self.announce(f"{key}: {same}")

    def _loads(self) -> dict[str, Any]:
        """Which loads the two warehouses hold."""
        entries = {name: marker.entry() for name, marker in self.input().items()}
        return {name: entry and entry.started_at.isoformat() for name, entry in entries.items()}
