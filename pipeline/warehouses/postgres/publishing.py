"""Publishes a staged month: indexes it, sets repeated rows aside and makes the rest visible, marker and all."""

from __future__ import annotations

import datetime

import psycopg2.errors
from dateutil.relativedelta import relativedelta
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from pipeline.warehouses.postgres.bad_rows import MalformedRow
from pipeline.warehouses.postgres.partitions import MonthTables, attach_month, withdraw_month
from pipeline.warehouses.postgres.statements import statement
from pipeline.warehouses.postgres.tables import Tables


def index_month(cursor: Cursor, month: MonthTables) -> int:
    """Builds the month's indexes in bulk; returns how many rows with an id seen before went to the quarantine."""
    (id_index, _), (time_index, _) = month.index_names()
    build = statement("create_row_id_index", index=sql.Identifier(id_index), loading=month.loading)
    cursor.execute("SAVEPOINT before_index")
    try:
        cursor.execute(build)
        repeats = 0
    except psycopg2.errors.UniqueViolation:
        cursor.execute("ROLLBACK TO SAVEPOINT before_index")
        cursor.execute(
            statement("quarantine_repeats_in_file", loading=month.loading, quarantine=month.quarantine),
            {"target_table": month.spec.table},
        )
        repeats = cursor.rowcount
        cursor.execute(build)
    cursor.execute(
        statement(
            "create_event_time_index",
            index=sql.Identifier(time_index),
            loading=month.loading,
            event_time=month.event_time,
        )
    )
    return repeats


def publish_month(cursor: Cursor, month: MonthTables) -> int:
    """Puts the month in the place of any that was there; returns how many of its rows another file already had.

    The caller's transaction makes all of it visible at once. Months are published one at a time, so that no two of
    them can bring in the same id.
    """
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (month.lock_name(),))
    withdraw_month(cursor, month)
    cursor.execute(statement("make_row_id_plain", loading=month.loading))
    taken = _ids_of_other_files(cursor, month)
    duplicates = 0
    if taken:
        cursor.execute(
            statement("quarantine_rows_of_other_files", loading=month.loading, quarantine=month.quarantine),
            {"target_table": month.spec.table, "ids": list(taken), "filenames": list(taken.values())},
        )
        duplicates = cursor.rowcount
    attach_month(cursor, month)
    return duplicates


def clear_quarantine(cursor: Cursor, tables: Tables, filename: str) -> None:
    """Removes what an earlier load of the file set aside."""
    cursor.execute(
        statement("clear_quarantine", quarantine=tables.quarantine),
        {"target_table": tables.spec.table, "filename": filename},
    )


def quarantine_malformed(cursor: Cursor, tables: Tables, filename: str, rows: list[MalformedRow]) -> None:
    """Keeps the rows that PostgreSQL did not take, with their line numbers and what was wrong."""
    if rows:
        cursor.execute(
            statement("quarantine_malformed_rows", quarantine=tables.quarantine),
            {
                "target_table": tables.spec.table,
                "filename": filename,
                "details": [row.detail for row in rows],
                "line_numbers": [row.line_number for row in rows],
                "lines": [row.line for row in rows],
            },
        )


def _ids_of_other_files(cursor: Cursor, month: MonthTables) -> dict[str, str]:
    """The ids that this month shares with other files, each with the file that has it.

    Equal ids mean equal event times, so only rows outside their own file's month come into question: theirs that
    lie in this month, and ours that lie outside it.
    """
    start = datetime.datetime.combine(month.month, datetime.time())
    bounds = {"start": start, "stop": start + relativedelta(months=1)}
    # The table is new, so the planner knows nothing of it; the indexes are right whatever it would guess.
    cursor.execute("SET LOCAL enable_seqscan = off")
    cursor.execute(statement("select_ids_outside_month", loading=month.loading, event_time=month.event_time), bounds)
    strays = [row[0] for row in cursor.fetchall()]
    cursor.execute(statement("select_files_of_ids", table=month.table), {"ids": strays})
    taken: dict[str, str] = dict(cursor.fetchall())
    cursor.execute(statement("select_ids_inside_month", table=month.table, event_time=month.event_time), bounds)
    taken.update(cursor.fetchall())
    return taken
