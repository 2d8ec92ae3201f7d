"""Reads and writes the ledger of loaded releases and the record of the last dbt build in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import RealDictCursor

from pipeline.datasets import Release
from pipeline.datasets.spec import LEDGER
from pipeline.warehouses.ledger import Build, LedgerEntry
from pipeline.warehouses.postgres.connection import statement

MADE_BY_PIPELINE = "(made by tlc-pipeline)"  # the text in dbt/macros/marks.sql
_LOADED_BY_PIPELINE = "(pipeline/datasets/"  # the text in `Tables.comment`
_NO_TABLE = (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName)


def ledger_table(schema: str) -> sql.Identifier:
    """Returns the identifier of a schema's ledger."""
    return sql.Identifier(schema, LEDGER)


def record_load(cursor: Cursor, schema: str, entry: LedgerEntry) -> None:
    """Writes the marker in the current transaction; `finished_at` is the server's current time."""
    cursor.execute(statement("record_load", ledger=ledger_table(schema)), asdict(entry))


def delete_load(cursor: Cursor, schema: str, release: Release) -> bool:
    """Deletes the release's markers of all task families; returns whether there were any."""
    values = {"target_table": release.table, "partition_key": release.key}
    cursor.execute(statement("delete_load", ledger=ledger_table(schema)), values)
    return bool(cursor.rowcount)


def find_load(connection: Connection, schema: str, task_family: str, release: Release) -> LedgerEntry | None:
    """Returns the marker of one load, or None if there is none."""
    values = {"task_family": task_family, "partition_key": release.key}
    entries = _select(connection, statement("select_load", ledger=ledger_table(schema)), values)
    return entries[0] if entries else None


def all_loads(connection: Connection, schema: str) -> list[LedgerEntry]:
    """Returns all markers, ordered by table and month; empty if there is no ledger."""
    return _select(connection, statement("select_loads", ledger=ledger_table(schema)), {})


def find_build(connection: Connection, schema: str) -> Build | None:
    """Returns the record of the last build of the schema's models, or None if there is none."""
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        try:
            cursor.execute(statement("select_dbt_build", dbt_build=_build_table(schema)))
        except _NO_TABLE:
            return None
        row = cursor.fetchone()
        return Build(**{name: value for name, value in row.items() if name != "only_row"}) if row else None


def record_build(cursor: Cursor, schema: str, build: Build) -> None:
    """Replaces the record of the last build in the schema's `dbt_build` table."""
    cursor.execute(statement("create_dbt_build", dbt_build=_build_table(schema)))
    cursor.execute(statement("add_dbt_build_columns", dbt_build=_build_table(schema)))
    cursor.execute(statement("record_dbt_build", dbt_build=_build_table(schema)), asdict(build))


def foreign_relations(
    connection: Connection, loads_schema: str, marts_schema: str, models: Collection[str]
) -> list[str]:
    """Returns relations named like a model or a loaded table whose comment lacks the pipeline's mark."""
    loaded = {entry.target_table for entry in all_loads(connection, loads_schema)}
    with connection.cursor() as cursor:
        found = list[str]()
        for schema, names, mark in (
            (loads_schema, loaded, _LOADED_BY_PIPELINE),
            (marts_schema, models, MADE_BY_PIPELINE),
        ):
            cursor.execute(statement("select_foreign_relations"), {"schema": schema, "names": [*names], "mark": mark})
            found += [f"{schema}.{name}" for (name,) in cursor.fetchall()]
    return found


def has_relations(connection: Connection, schema: str, names: Collection[str]) -> bool:
    """Whether the schema has a table or view of each of these names."""
    with connection.cursor() as cursor:
        cursor.execute(statement("count_relations"), {"schema": schema, "names": [*names]})
        [(found,)] = cursor.fetchall()
        return bool(found == len({*names}))


def _build_table(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "dbt_build")


def _select(connection: Connection, query: sql.Composed, values: dict[str, str]) -> list[LedgerEntry]:
    with connection.cursor() as cursor:
        try:
            cursor.execute(query, values)
        except _NO_TABLE:
            return []
        # The ledger may have been created by an older or a newer version, with other columns.
        known = {field.name for field in fields(LedgerEntry)}
        indexes = {column.name: i for i, column in enumerate(cursor.description or ()) if column.name in known}
        return [LedgerEntry(**{name: row[i] for name, i in indexes.items()}) for row in cursor.fetchall()]
