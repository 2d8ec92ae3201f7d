"""A month's own table: made to be loaded, attached as a partition, and withdrawn again."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.warehouses.postgres.statements import statement
from pipeline.warehouses.postgres.tables import Tables, lock_set_up


@dataclass(frozen=True)
class MonthTables(Tables):
    """The identifiers of one month's objects: while it is loading, and once it is published."""

    month: datetime.date

    @property
    def partition_name(self) -> str:
        return self.spec.partition_table(self.month)

    @property
    def partition(self) -> sql.Identifier:
        return self.named(self.partition_name)

    @property
    def loading_name(self) -> str:
        return f"{self.partition_name}_loading"

    @property
    def loading(self) -> sql.Identifier:
        return self.named(self.loading_name)

    @property
    def filename(self) -> sql.Composable:
        return sql.Literal(self.spec.filename(self.month))

    def index_names(self) -> tuple[tuple[str, str], ...]:
        """The names of the month's indexes, while loading and when published."""
        return tuple((f"{self.loading_name}_{what}", f"{self.partition_name}_{what}") for what in ("id", "time"))


def create_loading_table(connection: Connection, month: MonthTables) -> None:
    """Makes the table that the month is loaded into, empty and unseen."""
    function = {"function": month.row_id_function, "argument_types": month.row_id_argument_types}
    with connection, connection.cursor() as cursor:
        lock_set_up(cursor)
        cursor.execute(statement("declare_row_id_immutable", **function))
        cursor.execute(
            statement(
                "create_loading_table",
                loading=month.loading,
                function=month.row_id_function,
                row_key=month.row_key,
                filename=month.filename,
                columns=month.column_definitions,
            )
        )
        cursor.execute(statement("declare_row_id_stable", **function))


def drop_loading_table(connection: Connection, month: MonthTables) -> None:
    """Drops what a killed or failed load of the month left, if it left anything."""
    with connection.cursor() as cursor:
        cursor.execute(statement("drop_table", table=month.loading))


def attach_month(cursor: Cursor, month: MonthTables) -> None:
    """Makes the loaded table a partition under its final names."""
    cursor.execute(statement("rename_table", table=month.loading, name=sql.Identifier(month.partition_name)))
    for loading_name, name in month.index_names():
        cursor.execute(statement("rename_index", index=month.named(loading_name), name=sql.Identifier(name)))
    cursor.execute(statement("attach_partition", table=month.table, partition=month.partition, filename=month.filename))
    cursor.execute(statement("drop_filename_check", partition=month.partition))


def withdraw_month(cursor: Cursor, month: MonthTables) -> None:
    """Takes a published month out of its table and drops it; nothing happens where there is none."""
    cursor.execute("SELECT to_regclass(%s)", (month.partition.as_string(cursor),))
    if (row := cursor.fetchone()) and row[0]:
        cursor.execute(statement("detach_partition", table=month.table, partition=month.partition))
        cursor.execute(statement("drop_table", table=month.partition))
