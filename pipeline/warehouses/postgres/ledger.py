"""Reads and writes the ledger of loaded releases and the record of the last dbt build in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import RealDictCursor

from pipeline.datasets import Release
from pipeline.datasets.spec import LEDGER
from pipeline.warehouses.ledger import Build, LedgerEntry
from pipeline.warehouses.postgres.connection import execute
from pipeline.warehouses.postgres.tables import ReleaseTables, Tables


def record_load(cursor: Cursor, tables: Tables, entry: LedgerEntry) -> None:
    """Writes the marker in the current transaction; `finished_at` is the server's current time."""
    tables.execute(cursor, "record_load", asdict(entry))


def delete_load(cursor: Cursor, tables: ReleaseTables) -> bool:
    """Deletes the release's markers of all task families; returns whether there were any."""
    values = {"target_table": tables.release.table, "partition_key": tables.release.key}
    tables.execute(cursor, "delete_load", values)
    return bool(cursor.rowcount)


def find_load(connection: Connection, schema: str, task_family: str, release: Release) -> LedgerEntry | None:
    """Returns the marker of one load, or None if there is none."""
    values = {"task_family": task_family, "partition_key": release.key}
    entries = _select_loads(connection, schema, "select_load", values)
    return entries[0] if entries else None


def all_loads(connection: Connection, schema: str) -> list[LedgerEntry]:
    """Returns all markers, ordered by table and month; empty if there is no ledger."""
    return _select_loads(connection, schema, "select_loads")


def _select_loads(
    connection: Connection, schema: str, name: str, values: Mapping[str, str] | None = None
) -> list[LedgerEntry]:
    # The ledger may have been created by an older or a newer version, with other columns.
    known = {field.name for field in fields(LedgerEntry)}
    rows = _rows(connection, name, values, ledger=sql.Identifier(schema, LEDGER))
    return [LedgerEntry(**{name: value for name, value in row.items() if name in known}) for row in rows]


def find_build(connection: Connection, schema: str) -> Build | None:
    """Returns the record of the last build of the schema's models, or None if there is none."""
    rows = _rows(connection, "select_dbt_build", dbt_build=_build_table(schema))
    return Build(**{name: value for name, value in rows[0].items() if name != "only_row"}) if rows else None


def record_build(cursor: Cursor, schema: str, build: Build) -> None:
    """Replaces the record of the last build in the schema's `dbt_build` table."""
    execute(cursor, "create_dbt_build", dbt_build=_build_table(schema))
    execute(cursor, "add_dbt_build_columns", dbt_build=_build_table(schema))
    execute(cursor, "record_dbt_build", asdict(build), dbt_build=_build_table(schema))


def _build_table(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "dbt_build")


def _rows(
    connection: Connection, name: str, values: Mapping[str, str] | None = None, /, **parts: sql.Composable
) -> list[dict[str, Any]]:
    """Returns the rows that a statement selects; none if its table does not exist."""
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        try:
            execute(cursor, name, values, **parts)
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            return []
        return [dict(row) for row in cursor.fetchall()]
