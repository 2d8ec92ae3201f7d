"""Reads the ledger of loaded releases in PostgreSQL, and reads and writes the record of the last dbt build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TypeVar

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import RealDictCursor

from pipeline.datasets import Release
from pipeline.datasets.spec import LEDGER
from pipeline.warehouses.ledger import Build, LedgerEntry
from pipeline.warehouses.postgres.connection import execute

Record = TypeVar("Record", LedgerEntry, Build)


def find_load(connection: Connection, schema: str, task_family: str, release: Release) -> LedgerEntry | None:
    """Returns the marker of one load, or None if there is none."""
    values = {"task_family": task_family, "partition_key": release.key}
    found = _records(connection, LedgerEntry, "select_load", values, ledger=sql.Identifier(schema, LEDGER))
    return found[0] if found else None


def all_loads(connection: Connection, schema: str) -> list[LedgerEntry]:
    """Returns all markers, ordered by table and month; empty if there is no ledger."""
    return _records(connection, LedgerEntry, "select_loads", ledger=sql.Identifier(schema, LEDGER))


def find_build(connection: Connection, schema: str) -> Build | None:
    """Returns the record of the last build of the schema's models, or None if there is none."""
    found = _records(connection, Build, "select_dbt_build", dbt_build=_build_table(schema))
    return found[0] if found else None


def record_build(cursor: Cursor, schema: str, build: Build) -> None:
    """Replaces the record of the last build in the schema's `dbt_build` table."""
    execute(cursor, "create_dbt_build", dbt_build=_build_table(schema))
    execute(cursor, "add_dbt_build_columns", dbt_build=_build_table(schema))
    execute(cursor, "record_dbt_build", asdict(build), dbt_build=_build_table(schema))


def _build_table(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "dbt_build")


def _records(
    connection: Connection,
    kind: type[Record],
    name: str,
    values: Mapping[str, str] | None = None,
    /,
    **parts: sql.Composable,
) -> list[Record]:
    """Returns the rows that a statement selects; none if there is no such table.

    The table may have been created by an older or a newer version, with other columns.
    """
    known = {field.name for field in fields(kind)}
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        try:
            execute(cursor, name, values, **parts)
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            return []
        return [kind(**{name: value for name, value in row.items() if name in known}) for row in cursor.fetchall()]
