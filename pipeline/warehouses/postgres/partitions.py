"""A release's own table: made to be loaded, indexed, attached as a partition, and dropped again."""

from __future__ import annotations

import datetime

import psycopg2.errors
from dateutil.relativedelta import relativedelta
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from pipeline.warehouses.postgres.connection import lock_transaction, statement, table_exists
from pipeline.warehouses.postgres.quarantine import quarantine_rows_of_other_files, resolve_repeated_ids
from pipeline.warehouses.postgres.tables import ReleaseTables, lock_set_up

_BEFORE_INDEX = sql.Identifier("before_index")


def create_loading_table(cursor: Cursor, tables: ReleaseTables) -> None:
    """Makes the table that the release is loaded into, empty and unseen, in the transaction at hand."""
    function = {"function": tables.row_id_function, "argument_types": tables.row_id_argument_types}
    lock_set_up(cursor)
    cursor.execute(statement("declare_row_id_immutable", **function))
    cursor.execute(
        statement(
            "create_loading_table",
            loading=tables.loading,
            function=tables.row_id_function,
            key_values=tables.key_values,
            filename=tables.filename,
            columns=tables.column_definitions,
        )
    )
    cursor.execute(statement("declare_row_id_stable", **function))


def drop_loading_table(cursor: Cursor, tables: ReleaseTables) -> None:
    """Drops what a killed or failed load of the release left, if it left anything."""
    cursor.execute(statement("drop_table", table=tables.loading))


def index_partition(cursor: Cursor, tables: ReleaseTables) -> int:
    """Builds the loaded table's indexes in bulk; returns how many rows that were there already were quarantined."""
    cursor.execute(statement("make_row_id_plain", loading=tables.loading))
    (id_index, _), (time_index, _) = tables.index_names()
    build = statement("create_row_id_index", index=sql.Identifier(id_index), loading=tables.loading)
    cursor.execute(statement("save", savepoint=_BEFORE_INDEX))
    repeats = 0
    try:
        cursor.execute(build)
    except psycopg2.errors.UniqueViolation:
        cursor.execute(statement("roll_back_to", savepoint=_BEFORE_INDEX))
        repeats = resolve_repeated_ids(cursor, tables)
        cursor.execute(build)
    cursor.execute(
        statement(
            "create_event_time_index",
            index=sql.Identifier(time_index),
            loading=tables.loading,
            event_time=tables.event_time,
        )
    )
    return repeats


def publish_partition(cursor: Cursor, tables: ReleaseTables) -> int:
    """Puts the release in the place of any edition that was there; returns how many rows another file already had.

    The caller's transaction makes all of it visible at once. Releases are published one at a time, so that no two of
    them can bring in the same id.
    """
    lock_transaction(cursor, tables.lock_name())
    drop_partition(cursor, tables)
    duplicates = quarantine_rows_of_other_files(cursor, tables, _ids_of_other_files(cursor, tables))
    _attach(cursor, tables)
    return duplicates


def drop_partition(cursor: Cursor, tables: ReleaseTables) -> None:
    """Takes a published release out of its table and drops it; nothing happens where there is none."""
    if table_exists(cursor, tables.partition):
        cursor.execute(statement("detach_partition", table=tables.table, partition=tables.partition))
        cursor.execute(statement("drop_table", table=tables.partition))


def _attach(cursor: Cursor, tables: ReleaseTables) -> None:
    """Makes the loaded table a partition under its final names."""
    cursor.execute(statement("rename_table", table=tables.loading, name=sql.Identifier(tables.partition_name)))
    for loading_name, name in tables.index_names():
        cursor.execute(statement("rename_index", index=tables.named(loading_name), name=sql.Identifier(name)))
    cursor.execute(
        statement("attach_partition", table=tables.table, partition=tables.partition, filename=tables.filename)
    )
    cursor.execute(statement("drop_filename_check", partition=tables.partition))


def _ids_of_other_files(cursor: Cursor, tables: ReleaseTables) -> dict[str, str]:
    """The ids that this release shares with other files, each with the file that has it.

    Equal ids mean equal event times, so only rows outside their own file's month come into question: theirs that
    lie in this month, and ours that lie outside it.
    """
    assert tables.release.month
    start = datetime.datetime.combine(tables.release.month, datetime.time())
    bounds = {"start": start, "stop": start + relativedelta(months=1)}
    cursor.execute(statement("prefer_indexes"))
    cursor.execute(statement("select_ids_outside_month", loading=tables.loading, event_time=tables.event_time), bounds)
    strays = [row[0] for row in cursor.fetchall()]
    cursor.execute(statement("select_files_of_ids", table=tables.table), {"ids": strays})
    filename_of_id: dict[str, str] = dict(cursor.fetchall())
    cursor.execute(statement("select_ids_inside_month", table=tables.table, event_time=tables.event_time), bounds)
    filename_of_id.update(cursor.fetchall())
    return filename_of_id
