"""Where the report reads its figures: the marts, the tables below them and the ledger, on any warehouse."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from psycopg2 import sql
from psycopg2.extras import RealDictCursor

from pipeline.datasets import DatasetSpec
from pipeline.warehouses.postgres import LedgerEntry, PostgresDatabase, all_loads

STATEMENTS = Path(__file__).parents[2] / "sql" / "report"

Rows = list[dict[str, Any]]


class Warehouse(Protocol):
    """Runs the statements of `sql/report`, which are valid on every warehouse."""

    title: str

    def of_marts(self, name: str) -> Rows:
        """The rows of a statement about `{fact_trips}`."""

    def of_dataset(self, name: str, spec: DatasetSpec) -> Rows:
        """The rows of a statement about a dataset's `{table}` and `{event_time}`."""

    def loads(self) -> list[LedgerEntry]:
        """Every file that is loaded, and what became of its rows."""


@dataclass(frozen=True)
class PostgresWarehouse:
    """PostgreSQL, with the marts in a schema of their own."""

    database: PostgresDatabase
    marts_schema: str
    title: str = "PostgreSQL"

    def of_marts(self, name: str) -> Rows:
        return self._select(name, fact_trips=sql.Identifier(self.marts_schema, "fact_trips"))

    def of_dataset(self, name: str, spec: DatasetSpec) -> Rows:
        table = sql.Identifier(self.database.schema, spec.table)
        return self._select(name, table=table, event_time=sql.Identifier(spec.event_time or ""))

    def loads(self) -> list[LedgerEntry]:
        with contextlib.closing(self.database.connect()) as connection:
            return all_loads(connection, sql.Identifier(self.database.schema, "load_ledger"))

    def _select(self, name: str, **parts: sql.Composable) -> Rows:
        query = sql.SQL((STATEMENTS / f"{name}.sql").read_text()).format(**parts)
        with (
            contextlib.closing(self.database.connect()) as connection,
            connection.cursor(cursor_factory=RealDictCursor) as cursor,
        ):
            cursor.execute(query)
            return [dict(row) for row in cursor.fetchall()]
