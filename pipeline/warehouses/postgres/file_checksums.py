"""Computes the checksums of a release's rows in PostgreSQL."""

from __future__ import annotations

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.datasets import Column, Release
from pipeline.warehouses.checksums import FileChecksums, checksums_from_rows, is_summed
from pipeline.warehouses.postgres.connection import statement
from pipeline.warehouses.postgres.tables import Tables

_SUM = "count({0}), sum({0}::numeric)"
_DIGEST = "count({0}), sum(('x' || left(md5({0}::text), 10))::bit(40)::bigint)"


def file_checksums(connection: Connection, schema: str, release: Release) -> FileChecksums:
    """Returns the checksums of the release's rows by the day of the event time."""
    tables = Tables(schema, release.dataset)
    query = statement(
        "select_file_checksums",
        table=tables.table,
        event_time=tables.event_time,
        checksums=sql.SQL(", ").join(map(_checksums, release.dataset.columns)),
    )
    with connection.cursor() as cursor:
        cursor.execute(query, {"filename": release.filename})
        return checksums_from_rows(release.dataset, cursor.fetchall())


def _checksums(column: Column) -> sql.Composed:
    return sql.SQL(_SUM if is_summed(column) else _DIGEST).format(sql.Identifier(column.name))
