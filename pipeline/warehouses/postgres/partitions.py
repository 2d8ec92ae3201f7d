"""The partition of a release: creates, indexes, attaches, checksums and drops it."""

from __future__ import annotations

import datetime

import psycopg2.errors
from dateutil.relativedelta import relativedelta
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Column, Release
from pipeline.errors import PipelineError
from pipeline.warehouses.checksums import FileChecksums, checksums_from_rows, is_summed
from pipeline.warehouses.postgres.connection import LockTimeout, execute, table_exists
from pipeline.warehouses.postgres.ledger import all_loads
from pipeline.warehouses.postgres.setup import lock_setup
from pipeline.warehouses.postgres.tables import ReleaseTables, Tables

_SUM = "count({0}), sum(round({0}::numeric, 9))"
_DIGEST = "count({0}), sum(('x' || left(md5({0}::text), 10))::bit(40)::bigint)"


def create_loading_table(cursor: Cursor, tables: ReleaseTables) -> None:
    """Creates the empty, unattached table that the release is loaded into, in the current transaction."""
    lock_setup(cursor, tables)
    tables.execute(cursor, "declare_row_id_immutable")
    tables.execute(cursor, "create_loading_table")
    tables.execute(cursor, "identify_loading_rows")
    tables.execute(cursor, "declare_row_id_stable")


def drop_loading_table(cursor: Cursor, tables: ReleaseTables) -> None:
    """Drops the table that a killed or failed load of the release may have left."""
    execute(cursor, "drop_table", table=tables.loading)


def publish_partition(cursor: Cursor, tables: ReleaseTables) -> int:
    """Indexes the loaded table and attaches it in place of any earlier edition of the release.

    Returns how many rows were quarantined, as repeated in the file or as duplicates of other files. The caller
    commits the transaction. Locks ensure that only one release at a time is published, and that no rows are inserted by
    hand meanwhile, so that the same id is not inserted twice.
    """
    repeats = _index(cursor, tables)
    # The strongest lock that is needed, before the advisory one, because an INSERT by hand takes them in this order.
    is_replaced = table_exists(cursor, tables.partition)
    tables.execute(cursor, "lock_table" if is_replaced else "lock_table_to_attach_partition")
    execute(cursor, "lock_transaction", {"name": tables.lock_name()})
    drop_partition(cursor, tables)
    duplicates = _quarantine_duplicates(cursor, tables)
    _attach(cursor, tables)
    return repeats + duplicates


def drop_partition(cursor: Cursor, tables: ReleaseTables) -> None:
    """Detaches and drops the partition of a published release, if there is one.

    :raises PipelineError: if a table that is no partition has its name, such as one that was detached by hand.
    """
    if not table_exists(cursor, tables.partition):
        return
    try:
        tables.execute(cursor, "detach_partition")
    except psycopg2.errors.UndefinedTable as error:
        remedy = "drop it or move it, with its indexes, to another schema, and run again"
        raise PipelineError(f"{tables.release.key}: {error.diag.message_primary}; {remedy}") from error
    execute(cursor, "drop_table", table=tables.partition)


def _index(cursor: Cursor, tables: ReleaseTables) -> int:
    """Builds the loaded table's indexes in bulk; returns how many rows were quarantined as repeated in the file."""
    tables.execute(cursor, "drop_row_id_expression")
    id_index, time_index = (sql.Identifier(name) for name, _ in tables.index_names())
    execute(cursor, "create_savepoint")
    repeats = 0
    try:
        tables.execute(cursor, "create_row_id_index", index=id_index)
    except psycopg2.errors.UniqueViolation:
        execute(cursor, "rollback_to_savepoint")
        tables.execute(cursor, "resolve_repeated_ids")
        repeats = cursor.rowcount
        tables.execute(cursor, "create_row_id_index", index=id_index)
    tables.execute(cursor, "create_event_time_index", index=time_index)
    return repeats


def _attach(cursor: Cursor, tables: ReleaseTables) -> None:
    """Renames the loaded table and its indexes to their final names and attaches it as a partition."""
    execute(cursor, "rename_table", table=tables.loading, name=sql.Identifier(tables.partition_name))
    for loading_name, name in tables.index_names():
        execute(cursor, "rename_index", index=tables.identifier(loading_name), name=sql.Identifier(name))
    tables.execute(cursor, "attach_partition")
    tables.execute(cursor, "drop_filename_check")


def _quarantine_duplicates(cursor: Cursor, tables: ReleaseTables) -> int:
    """Moves the rows whose ids other files have to the quarantine; returns their number."""
    assert tables.release.month
    start = datetime.datetime.combine(tables.release.month, datetime.time())
    execute(cursor, "disable_seqscan")
    bounds = {"start": start, "stop": start + relativedelta(months=1)}
    tables.execute(cursor, "quarantine_duplicates_of_other_files", bounds)
    return int(cursor.rowcount)


def orphaned_duplicates(connection: Connection, tables: Tables) -> dict[str, int]:
    """Returns how many rows of each file were set aside for another file's rows, which were removed since.

    :raises LockTimeout: if another session has locked the table for longer than the connection's lock_timeout.
    """
    loads = [entry for entry in all_loads(connection, tables.schema) if entry.target_table == tables.dataset.table]
    values = {
        "filenames": [Release(tables.dataset, entry.month).filename for entry in loads],
        "finished_at": [entry.finished_at for entry in loads],
    }
    with connection.cursor() as cursor:
        try:
            tables.execute(cursor, "count_orphaned_duplicates", values)
        except psycopg2.errors.UndefinedTable:  # nothing of the dataset was loaded
            return {}
        except psycopg2.errors.LockNotAvailable as error:
            table = tables.dataset.table
            raise LockTimeout(f"the duplicates in {table} were not counted: another session has locked it") from error
        return dict(cursor.fetchall())


def file_checksums(connection: Connection, schema: str, release: Release) -> FileChecksums:
    """Returns the checksums of the release's rows by the day of the event time."""
    checksums = sql.SQL(", ").join(map(_checksums, release.dataset.columns))
    with connection.cursor() as cursor:
        tables = ReleaseTables.of(schema, release)
        tables.execute(cursor, "select_file_checksums", {"filename": release.filename}, checksums=checksums)
        return checksums_from_rows(release.dataset, cursor.fetchall())


def _checksums(column: Column) -> sql.Composed:
    return sql.SQL(_SUM if is_summed(column) else _DIGEST).format(sql.Identifier(column.name))
