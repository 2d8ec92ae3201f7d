"""The marker of the dbt models in a schema: one row, in that schema, that goes with it."""

from __future__ import annotations

from dataclasses import asdict

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.warehouses.dbt_build import Build
from pipeline.warehouses.postgres.statements import statement
from pipeline.warehouses.postgres.tables import ensure_schema


def find_build(connection: Connection, schema: str) -> Build | None:
    """What the models were last built from, or None where they never were."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(statement("select_dbt_build", dbt_build=_marker(schema)))
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            return None
        row = cursor.fetchone()
        return Build(*row) if row else None


def record_build(connection: Connection, schema: str, build: Build) -> None:
    """Writes the marker in the place of any there was; makes the schema if it is missing."""
    with connection, connection.cursor() as cursor:
        ensure_schema(cursor, schema)
        cursor.execute(statement("create_dbt_build", dbt_build=_marker(schema)))
        cursor.execute(statement("record_dbt_build", dbt_build=_marker(schema)), asdict(build))


def _marker(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "dbt_build")
