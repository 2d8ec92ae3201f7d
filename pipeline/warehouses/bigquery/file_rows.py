"""Composes the SQL about the rows of one file: the transactions that load or forget it, and its checksums."""

from __future__ import annotations

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
    def table(self) -> str:
        return quoted(self.project.table_id(self.release.table))

    @property
    def quarantine(self) -> str:
        return quoted(self.project.table_id(QUARANTINE))

    @property
    def ledger(self) -> str:
        return quoted(self.project.table_id(LEDGER))

    @property
    def parameters(self) -> dict[str, Value]:
        """The query parameters that identify the file."""
        found: dict[str, Value] = {"target_table": self.release.table, "partition_key": self.release.key}
        return found | ({"filename": self.release.filename} if self.release.dataset.is_monthly else {})

    def days_condition(self, table: str) -> str:
        return days_condition(self.release.dataset, table, self.days)

    def load_script(self, staged: StagedFile) -> str:
        """Returns the transaction that replaces the file's rows by staged ones, and its ledger row."""
        dataset = self.release.dataset
        common = {"table": self.table, "columns": column_list(dataset)}
        from_staging = {"staging": quoted(staged.table_id), "staged_columns": staged_columns(dataset, staged.columns)}
        if not dataset.is_monthly:
            insert = statement("insert_lookup", **common, **from_staging)
            return self._transaction([self._delete(), insert, *self._replace_entry("TRUE")])
        rows_with_ids = statement(
            "identified_rows",
            columns=column_list(dataset),
            key_text=key_text(dataset),
            row_text=row_text(dataset),
            null_texts=null_texts(dataset),
            **from_staging,
        )
        parts = {"identified_rows": rows_with_ids, "other_days": self.days_condition("other")}
        insert = statement("insert_file", **common, **parts)
        duplicates = statement(
            "insert_duplicates", quarantine=self.quarantine, table=self.table, kept_in=KEPT_IN, **parts
        )
        return self._transaction(
            [
                self._delete(),
                insert,
                *self._replace_entry(f"loaded.filename = @filename AND {self.days_condition('loaded')}"),
                statement("delete_quarantined", quarantine=self.quarantine),
                f"{statement('if_duplicates', ledger=self.ledger)}\n{duplicates}",
                statement("end_if"),
                statement("assert_accounted", ledger=self.ledger, quarantine=self.quarantine),
            ]
        )

    def forget_script(self, existing: set[str]) -> str:
        """Returns the transaction that removes the file from the existing tables."""
        statements = [self._delete()] if self.release.table in existing else []
        if self.release.dataset.is_monthly and QUARANTINE in existing:
            statements.append(statement("delete_quarantined", quarantine=self.quarantine))
        return self._transaction([*statements, statement("delete_entry", ledger=self.ledger)])

    def checksums_query(self) -> str:
        """Returns the query for the rows' checksums; it reads only the partitions of their days."""
        return statement(
            "select_file_checksums",
            table=self.table,
            event_time=quoted(self.release.dataset.event_time or ""),
            comparable_text=comparable_text(self.release.dataset),
            checksums=", ".join(map(_checksums, self.release.dataset.columns)),
            loaded_days=self.days_condition("loaded"),
        )

    def duplicate_days_query(self) -> str:
        """Returns the query for the days of the rows of other files that were set aside as duplicates of this file."""
        return statement("select_days_of_duplicates", duplicates=self._duplicates())

    def orphaned_duplicates_query(self) -> str:
        """Returns the query for the number, by file, of those of these duplicates that the table does not have."""
        return statement(
            "count_orphaned_duplicates",
            duplicates=self._duplicates(),
            table=self.table,
            loaded_days=self.days_condition("loaded"),
        )

    def _duplicates(self) -> str:
        return statement(
            "duplicates_of_file",
            quarantine=self.quarantine,
            event_time=self.release.dataset.event_time or "",
            kept_in=KEPT_IN,
        )

    def _transaction(self, statements: list[str]) -> str:
        lock = quoted(self.project.table_id(LOCK))
        locking = [statement("take_lock", lock=lock), statement("assert_lock", lock=lock)]
        return ";\n".join([statement("begin_transaction"), *locking, *statements, statement("commit_transaction")])

    def _delete(self) -> str:
        if not self.release.dataset.is_monthly:
            return statement("delete_lookup", table=self.table)
        return statement("delete_file", table=self.table, loaded_days=self.days_condition("loaded"))

    def _replace_entry(self, loaded_rows: str) -> list[str]:
        """Returns the statements that replace the file's ledger row."""
        columns = [name for name in COLUMNS if name not in _SET_BY_TRANSACTION]
        insert = statement(
            "insert_entry",
            ledger=self.ledger,
            table=self.table,
            columns=", ".join(columns),
            values=", ".join(f"@{name}" for name in columns),
            loaded_rows=loaded_rows,
        )
        return [statement("delete_entry", ledger=self.ledger), insert]


def _checksums(column: Column) -> str:
    name = quoted(column.name)
    if is_summed(column):
        return f"COUNT({name}), SUM(CAST({name} AS NUMERIC))"
    digits = f"SUBSTR(TO_HEX(MD5({column_text(column)})), 1, 10)"
    return f"COUNT({name}), SUM(IF({name} IS NULL, NULL, CAST(CAST(CONCAT('0x', {digits}) AS INT64) AS NUMERIC)))"
