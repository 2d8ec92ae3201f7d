"""Creates, indexes, attaches and drops the partition of a release."""

from __future__ import annotations

import datetime

import psycopg2.errors
from dateutil.relativedelta import relativedelta
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from pipeline.warehouses.postgres.connection import lock_transaction, statement, table_exists
from pipeline.warehouses.postgres.quarantine import quarantine_duplicates_of_other_files, resolve_repeated_ids
from pipeline.warehouses.postgres.tables import ReleaseTables, lock_setup

_BEFORE_INDEX = sql.Identifier("before_index")


def create_loading_table(cursor: Cursor, tables: ReleaseTables) -> None:
    """Creates the empty, unattached table that the release is loaded into, in the current transaction."""
    function = {"function": tables.row_id_function, "argument_types": tables.row_id_argument_types}
    lock_setup(cursor)
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
    """Drops the table that a killed or failed load of the release may have left."""
    cursor.execute(statement("drop_table", table=tables.loading))


def index_partition(cursor: Cursor, tables: ReleaseTables) -> int:
    """Builds the loaded table's indexes in bulk; returns how many rows were quarantined as repeated in the file."""
    cursor.execute(statement("drop_row_id_expression", loading=tables.loading))
    (id_index, _), (time_index, _) = tables.index_names()
    build = statement("create_row_id_index", index=sql.Identifier(id_index), loading=tables.loading)
    cursor.execute(statement("create_savepoint", savepoint=_BEFORE_INDEX))
    repeats = 0
    try:
        cursor.execute(build)
    except psycopg2.errors.UniqueViolation:
        cursor.execute(statement("rollback_to_savepoint", savepoint=_BEFORE_INDEX))
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
    """Attaches the release in place of any earlier edition; returns how many rows were duplicates of other files.

    The caller commits the transaction. An advisory lock lets one release at a time publish, so that two releases cannot
    insert the same id.
    """
    lock_transaction(cursor, tables.lock_name())
    drop_partition(cursor, tables)
    duplicates = quarantine_duplicates_of_other_files(cursor, tables, _find_shared_ids(cursor, tables))
    _attach(cursor, tables)
    return duplicates


def drop_partition(cursor: Cursor, tables: ReleaseTables) -> None:
    """Detaches and drops the partition of a published release, if there is one."""
    if table_exists(cursor, tables.partition):
        cursor.execute(statement("detach_partition", table=tables.table, partition=tables.partition))
        cursor.execute(statement("drop_table", table=tables.partition))


def _attach(cursor: Cursor, tables: ReleaseTables) -> None:
    """Renames the loaded table and its indexes to their final names and attaches it as a partition."""
    cursor.execute(statement("rename_table", table=tables.loading, name=sql.Identifier(tables.partition_name)))
    for loading_name, name in tables.index_names():
        cursor.execute(statement("rename_index", index=tables.identifier(loading_name), name=sql.Identifier(name)))
    cursor.execute(
        statement("attach_partition", table=tables.table, partition=tables.partition, filename=tables.filename)
    )
    cursor.execute(statement("drop_filename_check", partition=tables.partition))


def _find_shared_ids(cursor: Cursor, tables: ReleaseTables) -> dict[str, str]:
    """Returns the ids that this release shares with other files, each with the name of that file.

    Equal ids imply equal event times, so only rows outside their own file's month can match: rows of other files inside
    this month, and rows of this release outside it.
    """
    assert tables.release.month
    start = datetime.datetime.combine(tables.release.month, datetime.time())
    bounds = {"start": start, "stop": start + relativedelta(months=1)}
    cursor.execute(statement("disable_seqscan"))
    cursor.execute(statement("select_ids_outside_month", loading=tables.loading, event_time=tables.event_time), bounds)
    outside_ids = [row[0] for row in cursor.fetchall()]
    cursor.execute(statement("select_files_of_ids", table=tables.table), {"ids": outside_ids})
    filename_of_id: dict[str, str] = dict(cursor.fetchall())
    cursor.execute(statement("select_ids_inside_month", table=tables.table, event_time=tables.event_time), bounds)
    filename_of_id.update(cursor.fetchall())
    return filename_of_id
