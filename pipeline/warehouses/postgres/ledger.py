"""The ledger: which file is loaded where, from what, and what became of every one of its rows."""

from __future__ import annotations

import contextlib
from dataclasses import asdict

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import RealDictCursor

from pipeline.datasets.own_tables import LEDGER
from pipeline.errors import PipelineError
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.statements import statement


def record_load(cursor: Cursor, ledger: sql.Identifier, entry: LedgerEntry) -> None:
    """Writes the marker in the transaction at hand; it ends now, by the server's clock."""
    cursor.execute(statement("record_load", ledger=ledger), asdict(entry))


def find_load(
    connection: Connection, ledger: sql.Identifier, task_family: str, partition_key: str
) -> LedgerEntry | None:
    """The marker of one load, or None when it has not been done."""
    entries = _select(
        connection,
        statement("select_load", ledger=ledger),
        {"task_family": task_family, "partition_key": partition_key},
    )
    return entries[0] if entries else None


def all_loads(database: PostgresDatabase) -> list[LedgerEntry]:
    """Every marker, by table and month; none where nothing has ever been loaded."""
    with contextlib.closing(database.connect()) as connection:
        return _select(connection, statement("select_loads", ledger=ledger_table(database.schema)), {})


def ledger_table(schema: str) -> sql.Identifier:
    """The ledger of all that is loaded into a schema."""
    return sql.Identifier(schema, LEDGER)


def _select(connection: Connection, query: sql.Composed, values: dict[str, str]) -> list[LedgerEntry]:
    try:
        with connection.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(query, values)
            return [LedgerEntry(**row) for row in cursor.fetchall()]
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        return []
    except psycopg2.ProgrammingError as error:
        raise PipelineError(
            f"{LEDGER} cannot be read: {error.diag.message_primary}; mend that, or choose another --postgres-schema"
        ) from error
