"""The quarantine: rows that are in a release but not in its table, whole, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO, cast

from psycopg2.extensions import cursor as Cursor

from pipeline.warehouses.postgres.bad_rows import BadRows
from pipeline.warehouses.postgres.connection import statement
from pipeline.warehouses.postgres.tables import ReleaseTables


def clear_quarantine(cursor: Cursor, tables: ReleaseTables) -> None:
    """Removes what an earlier load of the release set aside."""
    values = {"target_table": tables.release.table, "filename": tables.release.filename}
    cursor.execute(statement("clear_quarantine", quarantine=tables.quarantine), values)


def quarantine_malformed(cursor: Cursor, tables: ReleaseTables, rows: BadRows) -> None:
    """Keeps the rows that are not what the spec says, with their line numbers and what was wrong."""
    if rows.count:
        rows.lines.seek(0)
        query = statement("quarantine_malformed_rows", quarantine=tables.quarantine)
        cursor.copy_expert(query, cast(TextIO, rows.lines))


def resolve_repeated_ids(cursor: Cursor, tables: ReleaseTables) -> int:
    """Gives rows that share the key ids of their own, and moves what is the same row again; returns how many of it."""
    query = statement(
        "resolve_repeated_ids",
        loading=tables.loading,
        quarantine=tables.quarantine,
        row_text=tables.row_text,
        key_text=tables.key_text,
    )
    cursor.execute(query, {"target_table": tables.release.table})
    return cursor.rowcount


def quarantine_rows_of_other_files(cursor: Cursor, tables: ReleaseTables, filename_of_id: Mapping[str, str]) -> int:
    """Moves the rows whose id is in the table from another file, which the mapping names; returns how many."""
    if not filename_of_id:
        return 0
    cursor.execute(
        statement("quarantine_rows_of_other_files", loading=tables.loading, quarantine=tables.quarantine),
        {
            "target_table": tables.release.table,
            "ids": list(filename_of_id),
            "filenames": list(filename_of_id.values()),
        },
    )
    return cursor.rowcount
