"""Creates and checks the tables of a dataset; holds the identifiers of its database objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Column, Dataset, Release
from pipeline.datasets.spec import QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.postgres.connection import lock_transaction, statement
from pipeline.warehouses.postgres.ledger import ledger_table

_CATALOGUE_TYPES = {"timestamp": "timestamp without time zone"}
_PARTITIONED, _PLAIN = "p", "r"


@dataclass(frozen=True)
class TableDescription:
    """A relation's kind, comment and column types, from the system catalogue."""

    kind: str
    comment: str
    columns: Mapping[str, str]

    @property
    def is_ordinary(self) -> bool:
        """Whether it is an ordinary table, not a partitioned table or a view."""
        return self.kind == _PLAIN


@dataclass(frozen=True)
class Tables:
    """The identifiers of one dataset's objects in one schema."""

    schema: str
    dataset: Dataset

    def identifier(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)

    @property
    def table(self) -> sql.Identifier:
        return self.identifier(self.dataset.table)

    @property
    def ledger(self) -> sql.Identifier:
        return ledger_table(self.schema)

    @property
    def quarantine(self) -> sql.Identifier:
        return self.identifier(QUARANTINE)

    @property
    def row_id_function(self) -> sql.Identifier:
        return self.identifier(f"{self.dataset.table}_row_id")

    @property
    def comment(self) -> str:
        """The table's comment, which includes the version of the spec that created it."""
        return f"{self.dataset.title} (pipeline/datasets/{self.dataset.name}.yaml, version {self.dataset.version})"

    def is_created_by_pipeline(self, comment: str) -> bool:
        """Returns whether a table with that comment was created from any version of the spec."""
        return f"(pipeline/datasets/{self.dataset.name}.yaml, version " in comment

    def catalogue_types(self) -> dict[str, str]:
        """Returns the types of the table's columns, as spelled in the system catalogue."""
        types = {"unique_row_id": "text", "filename": "text"} if self.dataset.is_monthly else {}
        return types | {
            column.name: _CATALOGUE_TYPES.get(column.postgres_type, column.postgres_type)
            for column in self.dataset.columns
        }

    def missing_columns(self, found: TableDescription | None) -> list[Column]:
        """Returns the declared columns that an existing table lacks; empty if there is no table."""
        return [column for column in self.dataset.columns if found and column.name not in found.columns]

    @property
    def event_time(self) -> sql.Identifier:
        return sql.Identifier(self.dataset.event_time or "")

    @property
    def row_key(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, self.dataset.row_key))

    @property
    def row_key_types(self) -> list[str]:
        types = {column.name: column.postgres_type for column in self.dataset.columns}
        return [types[name] for name in self.dataset.row_key]

    @property
    def key_values(self) -> sql.Composed:
        """The arguments of the row id function: the values of the row key, with `key_blanks` applied."""
        return sql.SQL(", ").join(map(self._key_value, self.dataset.row_key))

    def _key_value(self, name: str) -> sql.Composable:
        if not (blank_with := self.dataset.key_blanks.get(name)):
            return sql.Identifier(name)
        return sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(sql.Identifier(blank_with), sql.Identifier(name))

    @property
    def key_text(self) -> sql.Composed:
        """The text whose MD5 is the row id."""
        texts = (sql.SQL("({})::text").format(self._key_value(name)) for name in self.dataset.row_key)
        return sql.SQL("concat({})").format(sql.SQL(", ").join(texts))

    @property
    def row_text(self) -> sql.Composed:
        """The text that orders rows with the same key: all columns, joined with commas, NULL as the empty string."""
        texts = (sql.SQL("coalesce({}::text, '')").format(sql.Identifier(name)) for name in self.dataset.column_names)
        return sql.SQL("concat_ws(',', {})").format(sql.SQL(", ").join(texts))

    @property
    def row_id_argument_types(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.SQL, self.row_key_types))

    @property
    def column_definitions(self) -> sql.Composed:
        return sql.SQL(",\n    ").join(map(_definition, self.dataset.columns))

    def lock_name(self, key: str = "") -> str:
        """Returns the name of the advisory lock for publishing into the table, or for loading the release `key`."""
        return f"pipeline {self.schema}.{self.dataset.table} {key}"


@dataclass(frozen=True)
class ReleaseTables(Tables):
    """The identifiers of one release's objects, during the load and after publication."""

    release: Release

    @classmethod
    def of(cls, schema: str, release: Release) -> ReleaseTables:
        """Returns the identifiers of a release's objects in a schema."""
        return cls(schema, release.dataset, release)

    @property
    def partition_name(self) -> str:
        """The partition's name, e.g. `green_tripdata_2019_01`."""
        assert self.release.month
        return f"{self.release.table}_{self.release.month:%Y_%m}"

    @property
    def partition(self) -> sql.Identifier:
        return self.identifier(self.partition_name)

    @property
    def loading_name(self) -> str:
        return f"{self.partition_name}_loading"

    @property
    def loading(self) -> sql.Identifier:
        return self.identifier(self.loading_name)

    @property
    def filename(self) -> sql.Composable:
        return sql.Literal(self.release.filename)

    def index_names(self) -> tuple[tuple[str, str], ...]:
        """Returns each index's names during the load and after publication."""
        return tuple((f"{self.loading_name}_{index}", f"{self.partition_name}_{index}") for index in ("id", "time"))


def ensure_tables(connection: Connection, tables: Tables) -> None:
    """Creates the dataset's table, the ledger and the quarantine as the spec declares them; idempotent.

    Columns that a table from an earlier version of the spec lacks are appended to it.

    :raises PipelineError: if a table of that name exists that no version of the spec declares.
    """
    with connection.cursor() as cursor:
        found = describe_table(cursor, tables.table)
        if found:
            _check(tables, found)
        if not found or tables.missing_columns(found) or not _is_set_up(cursor, tables):
            with connection:
                lock_setup(cursor)
                create_tables(cursor, tables)
            _check(tables, describe_table(cursor, tables.table))


def lock_setup(cursor: Cursor) -> None:
    """Lets one transaction at a time change objects that all months share; concurrent changes of them would fail."""
    lock_transaction(cursor, "pipeline set-up")


def ensure_schema(cursor: Cursor, schema: str) -> None:
    """Creates the schema if it is missing; needs no privilege if it exists."""
    cursor.execute(statement("schema_is_missing"), {"schema": schema})
    if (row := cursor.fetchone()) and row[0]:
        cursor.execute(statement("create_schema", schema=sql.Identifier(schema)))


def _is_set_up(cursor: Cursor, tables: Tables) -> bool:
    names = {name: getattr(tables, name).as_string(cursor) for name in ("table", "ledger", "quarantine")}
    cursor.execute(statement("select_setup"), names | {"comment": tables.comment})
    row = cursor.fetchone()
    return bool(row and row[0])


def describe_table(cursor: Cursor, table: sql.Identifier) -> TableDescription | None:
    """Returns a table's description from the system catalogue, or None if it does not exist."""
    cursor.execute(statement("select_columns"), {"table": table.as_string(cursor)})
    rows = cursor.fetchall()
    return TableDescription(rows[0][0], rows[0][1], {name: type_ for _, _, name, type_ in rows}) if rows else None


def create_tables(cursor: Cursor, tables: Tables) -> None:
    """Creates the dataset's missing tables in the current transaction; the caller holds `lock_setup`."""
    ensure_schema(cursor, tables.schema)
    cursor.execute(statement("create_load_ledger", ledger=tables.ledger))
    cursor.execute(statement("add_ledger_columns", ledger=tables.ledger))
    cursor.execute(statement("create_load_quarantine", quarantine=tables.quarantine))
    cursor.execute(
        statement("create_quarantine_index", index=sql.Identifier(f"{QUARANTINE}_file"), quarantine=tables.quarantine)
    )
    if tables.dataset.is_monthly:
        _create_row_id_function(cursor, tables)
        cursor.execute(statement("create_partitioned_table", table=tables.table, columns=tables.column_definitions))
        _create_duplicate_id_trigger(cursor, tables)
    else:
        cursor.execute(
            statement(
                "create_lookup_table", table=tables.table, columns=tables.column_definitions, row_key=tables.row_key
            )
        )
    for column in tables.missing_columns(describe_table(cursor, tables.table)):
        cursor.execute(statement("add_column", table=tables.table, column=_definition(column)))
    _comment(cursor, tables)


def _create_row_id_function(cursor: Cursor, tables: Tables) -> None:
    # concat() writes a boolean as t; a cast to text, like other databases, writes true.
    arguments = [f"${i}::text" if type_ == "boolean" else f"${i}" for i, type_ in enumerate(tables.row_key_types, 1)]
    cursor.execute(
        statement(
            "create_row_id_function",
            function=tables.row_id_function,
            argument_types=tables.row_id_argument_types,
            arguments=sql.SQL(", ").join(map(sql.SQL, arguments)),
        )
    )


def _create_duplicate_id_trigger(cursor: Cursor, tables: Tables) -> None:
    function = tables.identifier(f"{tables.dataset.table}_refuse_duplicate_id")
    lock_name = sql.Literal(tables.lock_name())
    cursor.execute(
        statement("create_duplicate_id_function", function=function, table=tables.table, lock_name=lock_name)
    )
    table_name = sql.Literal(tables.dataset.table)
    cursor.execute(
        statement("create_duplicate_id_trigger", table=tables.table, function=function, table_name=table_name)
    )


def _comment(cursor: Cursor, tables: Tables) -> None:
    cursor.execute(statement("comment_on_table", table=tables.table, comment=sql.Literal(tables.comment)))
    for column in tables.dataset.columns:
        name = sql.Identifier(tables.schema, tables.dataset.table, column.name)
        cursor.execute(statement("comment_on_column", column=name, comment=sql.Literal(column.description)))


def _check(tables: Tables, found: TableDescription | None) -> None:
    """:raises PipelineError: if neither this nor an earlier version of the spec declares the table."""
    dataset = tables.dataset
    declared = tables.catalogue_types()
    kind = _PARTITIONED if dataset.is_monthly else _PLAIN
    if (
        found
        and found.kind == kind
        and found.columns.items() <= declared.items()
        and (found.columns.keys() == declared.keys() or tables.is_created_by_pipeline(found.comment))
    ):
        return
    raise PipelineError(
        f"the table {tables.schema}.{dataset.table} exists already and is not the one that"
        f" pipeline/datasets/{dataset.name}.yaml declares; rename it, or choose another schema with --postgres-schema"
    )


def _definition(column: Column) -> sql.Composed:
    return sql.SQL("{} " + column.postgres_type).format(sql.Identifier(column.name))
