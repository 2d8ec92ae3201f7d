"""The database objects of a dataset and of a release: their identifiers, and what stands for columns in statements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Column, Dataset, Release
from pipeline.datasets.spec import KEPT_IN, LEDGER, QUARANTINE
from pipeline.warehouses.postgres.connection import execute

_COMMA = sql.SQL(", ")
# As BigQuery's NUMERIC is written: nine decimal places, no trailing zeros, no exponent and no negative zero.
_COMPARABLE_AMOUNT = "trim_scale(round({}::numeric, 9))"


@dataclass(frozen=True)
class Tables:
    """One dataset's objects in one schema."""

    schema: str
    dataset: Dataset

    @property
    def parts(self) -> Mapping[str, sql.Composable]:
        """The `{placeholders}` of the statements in `sql/postgres/`, except those that only single statements have."""
        dataset = self.dataset
        return {
            "table": self.table,
            "table_name": sql.Literal(dataset.table),
            "ledger": self.identifier(LEDGER),
            "quarantine": self.identifier(QUARANTINE),
            "kept_in": sql.Literal(KEPT_IN),
            "columns": sql.SQL(",\n    ").join(map(definition, dataset.columns)),
            "event_time": sql.Identifier(dataset.event_time or ""),
            "row_key": _COMMA.join(map(sql.Identifier, dataset.row_key)),
            "row_id_function": self.identifier(f"{dataset.table}_row_id"),
            "row_key_types": _COMMA.join(map(sql.SQL, self._row_key_types())),
            "row_id_arguments": self._row_id_arguments(),
            "key_values": _COMMA.join(map(self._key_value, dataset.row_key)),
            "key_text": self._key_text(),
            "row_text": self._row_text(),
            "comparable_text": self._row_text(_COMPARABLE_AMOUNT),
        }

    def execute(
        self, cursor: Cursor, name: str, values: Mapping[str, Any] | None = None, /, **parts: sql.Composable
    ) -> None:
        """Executes a statement of `sql/postgres/` with its `{placeholders}` replaced by this object's and `parts`."""
        execute(cursor, name, values, **{**self.parts, **parts})

    def identifier(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)

    @property
    def table(self) -> sql.Identifier:
        return self.identifier(self.dataset.table)

    def lock_name(self, key: str = "") -> str:
        """Returns the name of the advisory lock for publishing into the table, or for a `key`: a release, set-up."""
        return f"pipeline {self.schema}.{self.dataset.table} {key}"

    def _row_key_types(self) -> list[str]:
        types = {column.name: column.postgres_type for column in self.dataset.columns}
        return [types[name] for name in self.dataset.row_key]

    def _row_id_arguments(self) -> sql.Composed:
        """The function's arguments as text. concat() writes a boolean as t; a cast, like other databases, as true."""
        types = enumerate(self._row_key_types(), 1)
        return _COMMA.join(sql.SQL(f"${i}::text" if type_ == "boolean" else f"${i}") for i, type_ in types)

    def _key_value(self, name: str) -> sql.Composable:
        """A value of the row key, with `key_blanks` applied."""
        if not (blank_with := self.dataset.key_blanks.get(name)):
            return sql.Identifier(name)
        return sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(sql.Identifier(blank_with), sql.Identifier(name))

    def _key_text(self) -> sql.Composed:
        """The text whose MD5 is the row id."""
        texts = (sql.SQL("({})::text").format(self._key_value(name)) for name in self.dataset.row_key)
        return sql.SQL("concat({})").format(_COMMA.join(texts))

    def _row_text(self, amount: str = "{}") -> sql.Composed:
        """All columns as text, joined with commas, NULL as the empty string; rows with the same key are in its order.

        `amount` is the expression for a column with decimal places.
        """
        values = (
            sql.SQL(amount if column.is_amount else "{}").format(sql.Identifier(column.name))
            for column in self.dataset.columns
        )
        texts = (sql.SQL("coalesce(({})::text, '')").format(value) for value in values)
        return sql.SQL("concat_ws(',', {})").format(_COMMA.join(texts))


@dataclass(frozen=True)
class ReleaseTables(Tables):
    """The objects of one release, during the load and after publication."""

    release: Release

    @classmethod
    def of(cls, schema: str, release: Release) -> ReleaseTables:
        """Returns a release's objects in a schema."""
        return cls(schema, release.dataset, release)

    @property
    def parts(self) -> Mapping[str, sql.Composable]:
        """Like those of `Tables`; and those of a release and, if it is a month, of its partition."""
        month = {"loading": self.loading, "partition": self.partition} if self.release.month else {}
        file = {"filename": sql.Literal(self.release.filename), "partition_key": sql.Literal(self.release.key)}
        return {**super().parts, **file, **month}

    def streams_lock_name(self) -> str:
        """Returns the name of the advisory lock that the sessions share which copy the release's rows."""
        return f"{self.lock_name(self.release.key)} streams"

    @property
    def partition_name(self) -> str:
        """The partition's name, e.g. `green_tripdata_2019_01`."""
        assert self.release.month
        return f"{self.release.table}_{self.release.month:%Y_%m}"

    @property
    def partition(self) -> sql.Identifier:
        return self.identifier(self.partition_name)

    @property
    def loading(self) -> sql.Identifier:
        return self.identifier(f"{self.partition_name}_loading")

    def index_names(self) -> tuple[tuple[str, str], ...]:
        """Returns each index's names during the load and after publication."""
        name = self.partition_name
        return tuple((f"{name}_loading_{index}", f"{name}_{index}") for index in ("id", "time"))


def definition(column: Column) -> sql.Composed:
    """Returns the column's name and type, as in CREATE TABLE."""
    return sql.SQL("{} " + column.postgres_type).format(sql.Identifier(column.name))
