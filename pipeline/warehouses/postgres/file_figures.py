"""A file's figures, as PostgreSQL computes them."""

from __future__ import annotations

import contextlib
import datetime

from psycopg2 import sql

from pipeline.datasets import Column, DatasetSpec
from pipeline.warehouses.figures import FileFigures, figures_of, is_summed
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.faults import explained
from pipeline.warehouses.postgres.statements import statement
from pipeline.warehouses.postgres.tables import Tables

_SUM = "count({0}), sum({0}::numeric)"
_DIGEST = "count({0}), sum(('x' || left(md5({0}::text), 10))::bit(40)::bigint)"


def file_figures(database: PostgresDatabase, spec: DatasetSpec, month: datetime.date) -> FileFigures:
    """The figures of the month's rows, by the day of the event.

    :raises PipelineError: when PostgreSQL cannot tell.
    """
    tables = Tables(database.schema, spec)
    query = statement(
        "select_file_figures",
        table=tables.table,
        event_time=tables.event_time,
        figures=sql.SQL(", ").join(map(_figures, spec.columns)),
    )
    with (
        explained(spec.partition_key(month), "compared"),
        contextlib.closing(database.connect()) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query, {"filename": spec.filename(month)})
        return figures_of(spec, cursor.fetchall())


def _figures(column: Column) -> sql.Composed:
    return sql.SQL(_SUM if is_summed(column) else _DIGEST).format(sql.Identifier(column.name))
