"""The task that verifies that both warehouses hold the same rows of a month."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path

import luigi
import luigi.local_target

from pipeline.datasets import format_month
from pipeline.errors import PipelineError, counted
from pipeline.settings import StorageSettings
from pipeline.tasks.base import TripdataTask
from pipeline.tasks.load import LOAD_TRIPDATA
from pipeline.warehouses import warehouse_info, warehouse_named
from pipeline.warehouses.checksums import differences
from pipeline.warehouses.ledger import LedgerEntry

_SHOWN = 10
_COMPARED = ("postgres", "bigquery")


class ReconcileTripdata(TripdataTask):
    """Compares a month's rows in PostgreSQL and BigQuery: row counts, ids and checksums of all columns, by day.

    Complete when the current loads have been compared and are equal, and both tables have the rows of their ledger.
    """

    force = luigi.BoolParameter(
        default=False, significant=False, description="compare again even if these loads have been compared"
    )

    def requires(self) -> dict[str, luigi.Task]:
        return {name: LOAD_TRIPDATA[name](taxi=self.taxi, month=self.month) for name in _COMPARED}

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(StorageSettings().folder("reconciled") / f"{self.release.key}.json"))

    def complete(self) -> bool:
        try:
            result = json.loads(Path(self.output().path).read_text())
            run_id, loads = result["run_id"], result["loads"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # missing, or written by an earlier version
            return False
        return (not self.force or run_id == self.run_id) and bool(loads == _loads(self._found_entries()))

    def run(self) -> None:
        entries = self._entries()
        for name in _COMPARED:  # a table lacks the columns that its spec has gained since the last load
            warehouse_named(name).prepare_build([self.release.dataset])
        checksums = {name: warehouse_named(name).checksums(self.release) for name in _COMPARED}
        rows = {name: sum(day.rows for day in days.values()) for name, days in checksums.items()}
        changed = [name for name, entry in entries.items() if rows[name] != entry.rows_loaded]
        if found := differences(*checksums.values()):
            more = f"; and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
            shown = f"{'; '.join(found[:_SHOWN])}{more}. {self._remedy(entries, changed)}"
            raise PipelineError(f"{self.release.key} is not the same in PostgreSQL and BigQuery: {shown}")
        if changed:
            postgres, bigquery = rows.values()
            loaded = f"{entries[changed[0]].rows_loaded:,} were loaded"
            found_rows = f"PostgreSQL has {counted(postgres, 'row')} of {self.release.key} and BigQuery {bigquery:,}"
            raise PipelineError(f"{found_rows}, but {loaded}. {self._remedy(entries, changed)}")
        compared_at = datetime.datetime.now(datetime.UTC).isoformat()
        result = {
            "rows": rows["postgres"],
            "days": len(checksums["postgres"]),
            "loads": _loads(entries),
            "run_id": self.run_id,
            "compared_at": compared_at,
        }
        with self.output().open("w") as file:
            json.dump(result, file, indent=2)
        same = f"the same {counted(rows['postgres'], 'row')} in PostgreSQL and BigQuery, with the same values"
        self.log_status(f"{self.release.key}: {same}, on {counted(len(checksums['postgres']), 'day')}")

    def _remedy(self, entries: dict[str, LedgerEntry], changed: list[str]) -> str:
        """Returns what to do about a difference; `changed` are the warehouses whose rows are not as many as loaded."""
        load = f"pipeline load {self.taxi} {format_month(self.month)} --force --warehouse"
        if changed:
            titles = " and ".join(warehouse_info(name).title for name in changed)
            name = changed[0] if len(changed) == 1 else "both"
            return f"Rows were changed in {titles} after the load; load the month again: `{load} {name}`"
        postgres, bigquery = (entries[name] for name in _COMPARED)
        if postgres.source_sha256 != bigquery.source_sha256:
            return (
                f"The loads are of different files, {postgres.source_url} and {bigquery.source_url}; load the same one"
                f" into both: `{load} both`, if necessary with `--source`"
            )
        if postgres.spec_version != bigquery.spec_version:
            versions = f"versions {postgres.spec_version} and {bigquery.spec_version}"
            return f"They were loaded with {versions} of the dataset's YAML file; load it again: `{load} both`"
        if postgres.rows_duplicate != bigquery.rows_duplicate:
            return (
                "Rows that several files have are kept from the file that was loaded first: run `pipeline forget` for"
                " the months that load_quarantine names with duplicate_of_other_file, and load them again in the same"
                " order into both"
            )
        return f"Load the month again: `{load} both`"

    def _entries(self) -> dict[str, LedgerEntry]:
        found = self._found_entries()
        if absent := [warehouse_info(name).title for name, entry in found.items() if entry is None]:
            raise PipelineError(f"{self.release.key} was removed from {absent[0]} in the meantime; run again")
        return {name: entry for name, entry in found.items() if entry is not None}

    def _found_entries(self) -> dict[str, LedgerEntry | None]:
        return {name: marker.find() for name, marker in self.input().items()}


def _loads(entries: Mapping[str, LedgerEntry | None]) -> dict[str, str | None]:
    """Returns the start times of the current loads, by warehouse."""
    return {name: entry.started_at.isoformat() if entry else None for name, entry in entries.items()}
