"""Creates a dataset's tables as its spec declares them, and checks those that exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Column, Dataset
from pipeline.datasets.spec import LEDGER, QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.postgres.connection import execute, value_of
from pipeline.warehouses.postgres.tables import Tables, definition

_CATALOGUE_TYPES = {"timestamp": "timestamp without time zone"}
_PARTITIONED, ORDINARY = "p", "r"  # kinds of relations


@dataclass(frozen=True)
class TableDescription:
    """A relation's kind, comments and column types, from the system catalogue."""

    kind: str
    comment: str
    row_id_comment: str
    columns: Mapping[str, str]

    def is_created_by_pipeline(self, dataset: Dataset) -> bool:
        """Returns whether the table was created from any version of the dataset's spec."""
        return f"({dataset.spec_file}, " in self.comment

    def is_current(self, dataset: Dataset) -> bool:
        """Returns whether the table is as this version of the dataset's spec declares it."""
        ids_are_known = not dataset.is_monthly or self.row_id_comment == dataset.row_id_comment
        return self.comment == dataset.table_comment and ids_are_known and not self.missing_columns(dataset)

    def missing_columns(self, dataset: Dataset) -> list[Column]:
        """Returns the declared columns that the table lacks."""
        return [column for column in dataset.columns if column.name not in self.columns]


def describe_table(cursor: Cursor, table: sql.Identifier) -> TableDescription | None:
    """Returns a table's description from the system catalogue, or None if it does not exist."""
    execute(cursor, "select_columns", {"table": table.as_string(cursor)})
    rows = cursor.fetchall()
    if not rows:
        return None
    row_id_comment = next((comment for *_, name, _, comment in rows if name == "unique_row_id"), "")
    return TableDescription(rows[0][0], rows[0][1], row_id_comment, {name: type_ for _, _, name, type_, _ in rows})


def declared_types(dataset: Dataset) -> dict[str, str]:
    """Returns the types of the columns of the dataset's table, as spelled in the system catalogue."""
    types = {"unique_row_id": "text", "filename": "text"} if dataset.is_monthly else {}
    return types | {
        column.name: _CATALOGUE_TYPES.get(column.postgres_type, column.postgres_type) for column in dataset.columns
    }


def ensure_tables(connection: Connection, tables: Tables) -> None:
    """Creates the dataset's table, the ledger and the quarantine as the spec declares them; idempotent.

    Columns that a table from an earlier version of the spec lacks are appended to it.

    :raises PipelineError: if a table of that name exists that no version of the spec declares, or one with another row
        key.
    """
    dataset = tables.dataset
    with connection.cursor() as cursor:
        found = describe_table(cursor, tables.table)
        if found:
            _check(tables, found)
            if found.is_current(dataset) and _has_shared_tables(cursor, tables):
                return
        with connection:
            lock_setup(cursor, tables)
            create_tables(cursor, tables)
        _check(tables, describe_table(cursor, tables.table))


def lock_setup(cursor: Cursor, tables: Tables) -> None:
    """Lets one transaction at a time change objects that a dataset's months share; concurrent changes would fail."""
    execute(cursor, "lock_transaction", {"name": tables.lock_name("set-up")})


def ensure_schema(cursor: Cursor, schema: str) -> None:
    """Creates the schema if it is missing; needs no privilege if it exists."""
    if value_of(cursor, "schema_is_missing", {"schema": schema}):
        execute(cursor, "create_schema", schema=sql.Identifier(schema))


def create_tables(cursor: Cursor, tables: Tables) -> None:
    """Creates the dataset's missing tables in the current transaction; the caller holds `lock_setup`."""
    if not _has_shared_tables(cursor, tables):
        _create_shared_tables(cursor, tables)
    if tables.dataset.is_monthly:
        tables.execute(cursor, "create_row_id_function")
        tables.execute(cursor, "create_partitioned_table")
        _add_columns(cursor, tables)  # before the trigger, which has a weaker lock; a reader may not let it be raised
        function = tables.identifier(f"{tables.dataset.table}_refuse_duplicate_id")
        lock_name = sql.Literal(tables.lock_name())
        tables.execute(cursor, "create_duplicate_id_function", function=function, lock_name=lock_name)
        tables.execute(cursor, "create_duplicate_id_trigger", function=function)
        row_id = sql.Identifier(tables.schema, tables.dataset.table, "unique_row_id")
        execute(cursor, "comment_on_column", column=row_id, comment=sql.Literal(tables.dataset.row_id_comment))
    else:
        tables.execute(cursor, "create_lookup_table")
        _add_columns(cursor, tables)
    tables.execute(cursor, "comment_on_table", comment=sql.Literal(tables.dataset.table_comment))
    for column in tables.dataset.columns:
        name = sql.Identifier(tables.schema, tables.dataset.table, column.name)
        execute(cursor, "comment_on_column", column=name, comment=sql.Literal(column.description))


def _add_columns(cursor: Cursor, tables: Tables) -> None:
    found = describe_table(cursor, tables.table)
    assert found  # it was created just before
    for column in found.missing_columns(tables.dataset):
        tables.execute(cursor, "add_column", column=definition(column))


def _create_shared_tables(cursor: Cursor, tables: Tables) -> None:
    """Creates the schema, the quarantine and the ledger, or brings those of an earlier version up to date.

    One transaction at a time. Locks both tables, in the order in which loads write to them.
    """
    execute(cursor, "lock_transaction", {"name": f"pipeline {tables.schema} set-up"})
    ensure_schema(cursor, tables.schema)
    tables.execute(cursor, "create_load_quarantine")
    tables.execute(cursor, "identify_quarantined_rows")
    tables.execute(cursor, "create_quarantine_index", index=sql.Identifier(f"{QUARANTINE}_file"))
    tables.execute(cursor, "create_load_ledger")
    tables.execute(cursor, "add_ledger_columns")


def _has_shared_tables(cursor: Cursor, tables: Tables) -> bool:
    """Returns whether the ledger and the quarantine are as this version of the pipeline creates them."""
    ledger, quarantine = (tables.identifier(name).as_string(cursor) for name in (LEDGER, QUARANTINE))
    return bool(value_of(cursor, "shared_tables_exist", {"ledger": ledger, "quarantine": quarantine}))


def _check(tables: Tables, found: TableDescription | None) -> None:
    """:raises PipelineError: if no version of the spec declares the table, or one with another row key does."""
    dataset = tables.dataset
    declared = declared_types(dataset)
    kind = _PARTITIONED if dataset.is_monthly else ORDINARY
    if (
        found
        and found.kind == kind
        and found.columns.items() <= declared.items()
        and (found.columns.keys() == declared.keys() or found.is_created_by_pipeline(dataset))
    ):
        dataset.check_row_key(f"{tables.schema}.{dataset.table}", found.row_id_comment)
        return
    undeclared = sorted(found.columns.keys() - declared.keys()) if found else []
    if found and undeclared and found.is_created_by_pipeline(dataset):
        raise PipelineError(
            f"the table {tables.schema}.{dataset.table} has columns that {dataset.spec_file} does not declare:"
            f" {', '.join(undeclared)}; keep columns of your own in a table of their own, with unique_row_id"
        )
    is_of_flows = dataset.is_monthly and found and found.kind == ORDINARY
    adopt = f", or if the course's Kestra flows made it: pipeline adopt {dataset.name}" if is_of_flows else ""
    raise PipelineError(
        f"the table {tables.schema}.{dataset.table} exists already and is not the one that {dataset.spec_file}"
        f" declares; rename it, or choose another [postgres] schema{adopt}"
    )
