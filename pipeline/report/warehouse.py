"""Where the report reads its figures: the marts, the tables that they are made from, and the ledger."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg2 import sql
from psycopg2.extras import RealDictCursor

from pipeline.datasets import DatasetSpec
from pipeline.files import CHECKOUT
from pipeline.warehouses.gcp import GcpProject
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres import PostgresDatabase, all_loads

FOLDER = CHECKOUT / "sql" / "report"

Rows = list[dict[str, Any]]


def statement(name: str) -> str:
    """The statement in `sql/report/<name>.sql`, which every warehouse takes, with `{placeholders}` for names."""
    return (FOLDER / f"{name}.sql").read_text()


class Warehouse(Protocol):
    """Runs statements, each on a connection of its own: workers fork, connections do not."""

    @property
    def title(self) -> str:
        """What the warehouse is called."""

    def of_marts(self, query: str) -> Rows:
        """The rows of a statement about `{fact_trips}`."""

    def of_dataset(self, query: str, spec: DatasetSpec) -> Rows:
        """The rows of a statement about a dataset's `{table}` and `{event_time}`."""

    def loads(self) -> list[LedgerEntry]:
        """Every file that is loaded, and what became of its rows."""


@dataclass(frozen=True)
class PostgresWarehouse:
    """A PostgreSQL database, with the marts in a schema that may be another."""

    database: PostgresDatabase
    marts: str
    title: str = "PostgreSQL"

    def of_marts(self, query: str) -> Rows:
        return self._select(query, fact_trips=sql.Identifier(self.marts, "fact_trips"))

    def of_dataset(self, query: str, spec: DatasetSpec) -> Rows:
        table = sql.Identifier(self.database.schema, spec.table)
        return self._select(query, table=table, event_time=sql.Identifier(spec.event_time or ""))

    def loads(self) -> list[LedgerEntry]:
        return all_loads(self.database)

    def _select(self, query: str, **names: sql.Identifier) -> Rows:
        with (
            contextlib.closing(self.database.connect()) as connection,
            connection.cursor(cursor_factory=RealDictCursor) as cursor,
        ):
            cursor.execute(sql.SQL(query).format(**names))
            return [dict(row) for row in cursor.fetchall()]


@dataclass(frozen=True)
class BigQueryWarehouse:
    """A BigQuery dataset, with the marts in one that may be another."""

    project: GcpProject
    marts: str
    title: str = "BigQuery"

    def of_marts(self, query: str) -> Rows:
        return self._select(query, fact_trips=f"{self.project.project}.{self.marts}.fact_trips")

    def of_dataset(self, query: str, spec: DatasetSpec) -> Rows:
        return self._select(query, table=self.project.table_id(spec.table), event_time=spec.event_time or "")

    def loads(self) -> list[LedgerEntry]:
        from pipeline.warehouses.gcp.ledger import GcpLedger

        return list(GcpLedger(self.project).finished())

    def _select(self, query: str, **names: str) -> Rows:
        from pipeline.warehouses.gcp.faults import explained
        from pipeline.warehouses.gcp.jobs import query_config
        from pipeline.warehouses.gcp.statements import quoted

        config = query_config(self.project, {"pipeline": "tlc", "step": "report"})
        named = query.format(**{placeholder: quoted(name) for placeholder, name in names.items()})
        with explained("the report"), contextlib.closing(self.project.bigquery()) as client:
            return [dict(row) for row in client.query_and_wait(named, job_config=config)]
