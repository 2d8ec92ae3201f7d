"""Composes the SQL about the rows of one file: the transactions that load or forget it, and its checksums."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.datasets import Column, Release
from pipeline.datasets.spec import KEPT_IN, LEDGER, QUARANTINE
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.jobs import Value
from pipeline.warehouses.bigquery.ledger import LOCK
from pipeline.warehouses.bigquery.markers import COLUMNS, Days
from pipeline.warehouses.bigquery.sql_text import (
    column_list,
    column_text,
    comparable_text,
    days_condition,
    key_text,
    null_texts,
    quoted,
    row_text,
    staged_columns,
    statement,
)
from pipeline.warehouses.bigquery.staging import StagedFile
from pipeline.warehouses.checksums import is_summed

_SET_BY_TRANSACTION = ("rows_loaded", "rows_duplicate", "finished_at")


@dataclass(frozen=True)
class FileRows:
    """The rows of one file in its table, and the days that they may have."""

    project: GoogleProject
    release: Release
    days: Days

    @property
    def parameters(self) -> dict[str, Value]:
        """The query parameters that identify the file."""
        found: dict[str, Value] = {"target_table": self.release.table, "partition_key": self.release.key}
        return found | ({"filename": self.release.filename} if self.release.dataset.is_monthly else {})

    @functools.cached_property
    def parts(self) -> Mapping[str, str]:
        """The `{placeholders}` of the statements in `sql/bigquery/`, except those that only single statements have."""
        dataset, table_id = self.release.dataset, self.project.table_id
        entry_columns = [name for name in COLUMNS if name not in _SET_BY_TRANSACTION]
        loaded_days = days_condition(dataset, "loaded_row", self.days)
        return {
            "table": quoted(table_id(dataset.table)),
            "ledger": quoted(table_id(LEDGER)),
            "lock": quoted(table_id(LOCK)),
            "quarantine": quoted(table_id(QUARANTINE)),
            "kept_in": KEPT_IN,
            "columns": column_list(dataset),
            "event_time": dataset.event_time or "",
            "key_text": key_text(dataset),
            "row_text": row_text(dataset),
            "null_texts": null_texts(dataset),
            "comparable_text": comparable_text(dataset),
            "loaded_days": loaded_days,
            "other_days": days_condition(dataset, "other_row", self.days),
            "loaded_rows": f"loaded_row.filename = @filename AND {loaded_days}" if dataset.is_monthly else "TRUE",
            "entry_columns": ", ".join(entry_columns),
            "entry_values": ", ".join(f"@{name}" for name in entry_columns),
        }

    def load_script(self, staged: StagedFile) -> str:
        """Returns the transaction that replaces the file's rows by staged ones, and its ledger row."""
        staging = {
            "staging": quoted(staged.table_id),
            "staged_columns": staged_columns(self.release.dataset, staged.columns),
        }
        delete, *entry = map(self._statement, ("delete_rows", "delete_entry", "insert_entry"))
        if not self.release.dataset.is_monthly:
            return self._transaction(delete, self._statement("insert_lookup", **staging), *entry)
        rows = self._statement("identified_rows", **staging)
        insert, duplicates = (
            self._statement(name, identified_rows=rows) for name in ("insert_file", "insert_duplicates")
        )
        accounting = (
            self._statement("delete_quarantined"),
            f"{self._statement('if_duplicates')}\n{duplicates}",
            self._statement("end_if"),
            self._statement("assert_accounted"),
        )
        return self._transaction(delete, insert, *entry, *accounting)

    def forget_script(self, existing: set[str]) -> str:
        """Returns the transaction that removes the file from the existing tables."""
        names = ["delete_rows"] if self.release.table in existing else []
        names += ["delete_quarantined"] if self.release.dataset.is_monthly and QUARANTINE in existing else []
        return self._transaction(*map(self._statement, [*names, "delete_entry"]))

    def checksums_query(self) -> str:
        """Returns the query for the rows' checksums; it reads only the partitions of their days."""
        checksums = ", ".join(map(_checksums, self.release.dataset.columns))
        return self._statement("select_file_checksums", checksums=checksums)

    def duplicate_days_query(self) -> str:
        """Returns the query for the days of the dataset's rows that were set aside because another file had them."""
        return self._statement("select_days_of_duplicates", duplicates=self._statement("duplicates_of_other_files"))

    def orphaned_duplicates_query(self) -> str:
        """Returns the query that counts, by file, those of the same rows that are missing from the table."""
        return self._statement("count_orphaned_duplicates", duplicates=self._statement("duplicates_of_other_files"))

    def _transaction(self, *statements: str) -> str:
        locking = map(self._statement, ("begin_transaction", "take_lock", "assert_lock"))
        return ";\n".join([*locking, *statements, self._statement("commit_transaction")])

    def _statement(self, name: str, **parts: str) -> str:
        return statement(name, **{**self.parts, **parts})


def _checksums(column: Column) -> str:
    name = quoted(column.name)
    if is_summed(column):
        return f"COUNT({name}), SUM(CAST({name} AS NUMERIC))"
    digits = f"SUBSTR(TO_HEX(MD5({column_text(column)})), 1, 10)"
    return f"COUNT({name}), SUM(IF({name} IS NULL, NULL, CAST(CAST(CONCAT('0x', {digits}) AS INT64) AS NUMERIC)))"
