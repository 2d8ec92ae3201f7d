"""The ledger in PostgreSQL: which release is loaded, from what, and what became of every one of its rows; and what the
dbt models were built from."""

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

MADE_BY_US = "(made by tlc-pipeline)"  # as dbt/macros/marks.sql has it
_LOADED_BY_US = "(pipeline/datasets/"  # as `Tables.comment` has it
_NO_TABLE = (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName)


def ledger_table(schema: str) -> sql.Identifier:
    """The ledger of all that is loaded into a schema."""
    return sql.Identifier(schema, LEDGER)


def record_load(cursor: Cursor, schema: str, entry: LedgerEntry) -> None:
    """Writes the marker in the transaction at hand; it ends now, by the server's clock."""
    cursor.execute(statement("record_load", ledger=ledger_table(schema)), asdict(entry))


def delete_load(cursor: Cursor, schema: str, release: Release) -> bool:
    """Deletes the release's markers, whichever tasks wrote them; says whether there were any."""
    values = {"target_table": release.table, "partition_key": release.key}
    cursor.execute(statement("delete_load", ledger=ledger_table(schema)), values)
    return bool(cursor.rowcount)


def find_load(connection: Connection, schema: str, task_family: str, release: Release) -> LedgerEntry | None:
    """The marker of one load, or None when it has not been done."""
    values = {"task_family": task_family, "partition_key": release.key}
    entries = _select(connection, statement("select_load", ledger=ledger_table(schema)), values)
    return entries[0] if entries else None


def all_loads(connection: Connection, schema: str) -> list[LedgerEntry]:
    """Every marker, by table and month; none where nothing has ever been loaded."""
    return _select(connection, statement("select_loads", ledger=ledger_table(schema)), {})


def find_build(connection: Connection, schema: str) -> Build | None:
    """What the models in the schema were last built from, or None where they never were."""
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        try:
            cursor.execute(statement("select_dbt_build", dbt_build=_build_table(schema)))
        except _NO_TABLE:
            return None
        row = cursor.fetchone()
        return Build(**{name: value for name, value in row.items() if name != "only_row"}) if row else None


def record_build(cursor: Cursor, schema: str, build: Build) -> None:
    """Writes what the models are built from, in the schema's own table, in the place of what was there."""
    cursor.execute(statement("create_dbt_build", dbt_build=_build_table(schema)))
    cursor.execute(statement("add_dbt_build_columns", dbt_build=_build_table(schema)))
    cursor.execute(statement("record_dbt_build", dbt_build=_build_table(schema)), asdict(build))


def relations_of_others(
    connection: Connection, loads_schema: str, marts_schema: str, models: Collection[str]
) -> list[str]:
    """Relations that have the name of a model or of a loaded table, and whose comment does not say that they are it."""
    loaded = {entry.target_table for entry in all_loads(connection, loads_schema)}
    with connection.cursor() as cursor:
        found = list[str]()
        for schema, names, mark in ((loads_schema, loaded, _LOADED_BY_US), (marts_schema, models, MADE_BY_US)):
            cursor.execute(statement("select_relations_of_others"), {"schema": schema, "names": [*names], "mark": mark})
            found += [f"{schema}.{name}" for (name,) in cursor.fetchall()]
    return found


def _build_table(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "dbt_build")


def _select(connection: Connection, query: sql.Composed, values: dict[str, str]) -> list[LedgerEntry]:
    with connection.cursor() as cursor:
        try:
            cursor.execute(query, values)
        except _NO_TABLE:
            return []
        # A ledger may be older than some fields, or newer than this code.
        known = {field.name for field in fields(LedgerEntry)}
        places = {column.name: place for place, column in enumerate(cursor.description or ()) if column.name in known}
        return [LedgerEntry(**{name: row[place] for name, place in places.items()}) for row in cursor.fetchall()]
