"""The database objects of a dataset: their identifiers, and creating and checking its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Column, Dataset, Release
from pipeline.datasets.spec import KEPT_IN, LEDGER, QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.checksums import is_amount
from pipeline.warehouses.postgres.connection import execute, value_of

_CATALOGUE_TYPES = {"timestamp": "timestamp without time zone"}
PARTITIONED, ORDINARY = "p", "r"  # kinds of relations
_SETUP = ("select_shared_setup", "select_table_setup")
_COMMA = sql.SQL(", ")
# As BigQuery's NUMERIC is written: nine decimal places, no trailing zeros, no exponent and no negative zero.
_COMPARABLE_AMOUNT = "trim_scale(round({}::numeric, 9))"


@dataclass(frozen=True)
class TableDescription:
    """A relation's kind, comment and column types, from the system catalogue."""

    kind: str
    comment: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Tables:
    """One dataset's objects in one schema."""

    schema: str
    dataset: Dataset

    @property
    def parts(self) -> Mapping[str, sql.Composable]:
        """The `{placeholders}` of the statements in `sql/postgres/`, except those that only single statements have."""
        dataset = self.dataset
        return {
            "table": self.table,
            "table_name": sql.Literal(dataset.table),
            "ledger": self.identifier(LEDGER),
            "quarantine": self.identifier(QUARANTINE),
            "kept_in": sql.Literal(KEPT_IN),
            "columns": sql.SQL(",\n    ").join(map(_definition, dataset.columns)),
            "event_time": sql.Identifier(dataset.event_time or ""),
            "row_key": _COMMA.join(map(sql.Identifier, dataset.row_key)),
            "row_id_function": self.identifier(f"{dataset.table}_row_id"),
            "row_key_types": _COMMA.join(map(sql.SQL, self._row_key_types())),
            "row_id_arguments": self._row_id_arguments(),
            "key_values": _COMMA.join(map(self._key_value, dataset.row_key)),
            "key_text": self._key_text(),
            "row_text": self._row_text(),
            "comparable_text": self._row_text(_COMPARABLE_AMOUNT),
        }

    def execute(
        self, cursor: Cursor, name: str, values: Mapping[str, Any] | None = None, /, **parts: sql.Composable
    ) -> None:
        """Executes a statement of `sql/postgres/` with its `{placeholders}` replaced by this object's and `parts`."""
        execute(cursor, name, values, **{**self.parts, **parts})

    def identifier(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)

    @property
    def table(self) -> sql.Identifier:
        return self.identifier(self.dataset.table)

    @property
    def comment(self) -> str:
        """The table's comment, which includes the version of the spec that created it."""
        return f"{self.dataset.title} (pipeline/datasets/{self.dataset.name}.yaml, version {self.dataset.version})"

    def is_created_by_pipeline(self, found: TableDescription) -> bool:
        """Returns whether the table was created from any version of the spec."""
        return f"(pipeline/datasets/{self.dataset.name}.yaml, version " in found.comment

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

    def lock_name(self, key: str = "") -> str:
        """Returns the name of the advisory lock for publishing into the table, or for a `key`: a release, set-up."""
        return f"pipeline {self.schema}.{self.dataset.table} {key}"

    def _row_key_types(self) -> list[str]:
        types = {column.name: column.postgres_type for column in self.dataset.columns}
        return [types[name] for name in self.dataset.row_key]

    def _row_id_arguments(self) -> sql.Composed:
        """The function's arguments as text. concat() writes a boolean as t; a cast, like other databases, as true."""
        types = enumerate(self._row_key_types(), 1)
        return _COMMA.join(sql.SQL(f"${i}::text" if type_ == "boolean" else f"${i}") for i, type_ in types)

    def _key_value(self, name: str) -> sql.Composable:
        """A value of the row key, with `key_blanks` applied."""
        if not (blank_with := self.dataset.key_blanks.get(name)):
            return sql.Identifier(name)
        return sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(sql.Identifier(blank_with), sql.Identifier(name))

    def _key_text(self) -> sql.Composed:
        """The text whose MD5 is the row id."""
        texts = (sql.SQL("({})::text").format(self._key_value(name)) for name in self.dataset.row_key)
        return sql.SQL("concat({})").format(_COMMA.join(texts))

    def _row_text(self, amount: str = "{}") -> sql.Composed:
        """All columns as text, joined with commas, NULL as the empty string; rows with the same key are in its order.

        `amount` is the expression for a column with decimal places.
        """
        values = (
            sql.SQL(amount if is_amount(column) else "{}").format(sql.Identifier(column.name))
            for column in self.dataset.columns
        )
        texts = (sql.SQL("coalesce(({})::text, '')").format(value) for value in values)
        return sql.SQL("concat_ws(',', {})").format(_COMMA.join(texts))


@dataclass(frozen=True)
class ReleaseTables(Tables):
    """The objects of one release, during the load and after publication."""

    release: Release

    @classmethod
    def of(cls, schema: str, release: Release) -> ReleaseTables:
        """Returns a release's objects in a schema."""
        return cls(schema, release.dataset, release)

    @property
    def parts(self) -> Mapping[str, sql.Composable]:
        """Like those of `Tables`; and those of a release and, if it is a month, of its partition."""
        month = {"loading": self.loading, "partition": self.partition} if self.release.month else {}
        file = {"filename": sql.Literal(self.release.filename), "partition_key": sql.Literal(self.release.key)}
        return {**super().parts, **file, **month}

    def streams_lock_name(self) -> str:
        """Returns the name of the advisory lock that the sessions share which copy the release's rows."""
        return f"{self.lock_name(self.release.key)} streams"

    @property
    def partition_name(self) -> str:
        """The partition's name, e.g. `green_tripdata_2019_01`."""
        assert self.release.month
        return f"{self.release.table}_{self.release.month:%Y_%m}"

    @property
    def partition(self) -> sql.Identifier:
        return self.identifier(self.partition_name)

    @property
    def loading(self) -> sql.Identifier:
        return self.identifier(f"{self.partition_name}_loading")

    def index_names(self) -> tuple[tuple[str, str], ...]:
        """Returns each index's names during the load and after publication."""
        name = self.partition_name
        return tuple((f"{name}_loading_{index}", f"{name}_{index}") for index in ("id", "time"))


def ensure_tables(connection: Connection, tables: Tables) -> None:
    """Creates the dataset's table, the ledger and the quarantine as the spec declares them; idempotent.

    Columns that a table from an earlier version of the spec lacks are appended to it.

    :raises PipelineError: if a table of that name exists that no version of the spec declares.
    """
    with connection.cursor() as cursor:
        found = describe_table(cursor, tables.table)
        if found:
            _check(tables, found)
        if not found or tables.missing_columns(found) or not _is_set_up(cursor, tables, *_SETUP):
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


def describe_table(cursor: Cursor, table: sql.Identifier) -> TableDescription | None:
    """Returns a table's description from the system catalogue, or None if it does not exist."""
    execute(cursor, "select_columns", {"table": table.as_string(cursor)})
    rows = cursor.fetchall()
    return TableDescription(rows[0][0], rows[0][1], {name: type_ for _, _, name, type_ in rows}) if rows else None


def create_tables(cursor: Cursor, tables: Tables) -> None:
    """Creates the dataset's missing tables in the current transaction; the caller holds `lock_setup`."""
    if not _is_set_up(cursor, tables, "select_shared_setup"):
        execute(cursor, "lock_transaction", {"name": f"pipeline {tables.schema} set-up"})
        ensure_schema(cursor, tables.schema)
        _create_shared_tables(cursor, tables)
    if tables.dataset.is_monthly:
        tables.execute(cursor, "create_row_id_function")
        tables.execute(cursor, "create_partitioned_table")
        _add_columns(cursor, tables)  # before the trigger, which has a weaker lock; a reader may not let it be raised
        function = tables.identifier(f"{tables.dataset.table}_refuse_duplicate_id")
        lock_name = sql.Literal(tables.lock_name())
        tables.execute(cursor, "create_duplicate_id_function", function=function, lock_name=lock_name)
        tables.execute(cursor, "create_duplicate_id_trigger", function=function)
    else:
        tables.execute(cursor, "create_lookup_table")
        _add_columns(cursor, tables)
    tables.execute(cursor, "comment_on_table", comment=sql.Literal(tables.comment))
    for column in tables.dataset.columns:
        name = sql.Identifier(tables.schema, tables.dataset.table, column.name)
        execute(cursor, "comment_on_column", column=name, comment=sql.Literal(column.description))


def _add_columns(cursor: Cursor, tables: Tables) -> None:
    for column in tables.missing_columns(describe_table(cursor, tables.table)):
        tables.execute(cursor, "add_column", column=_definition(column))


def _create_shared_tables(cursor: Cursor, tables: Tables) -> None:
    """Creates the quarantine and the ledger, or brings those of an earlier version up to date.

    Locks both, in the order in which loads write to them.
    """
    tables.execute(cursor, "create_load_quarantine")
    tables.execute(cursor, "identify_quarantined_rows")
    tables.execute(cursor, "create_quarantine_index", index=sql.Identifier(f"{QUARANTINE}_file"))
    tables.execute(cursor, "create_load_ledger")
    tables.execute(cursor, "add_ledger_columns")


def _is_set_up(cursor: Cursor, tables: Tables, *statements: str) -> bool:
    names = {name: tables.parts[name].as_string(cursor) for name in ("table", "ledger", "quarantine")}
    return all(value_of(cursor, statement, names | {"comment": tables.comment}) for statement in statements)


def _check(tables: Tables, found: TableDescription | None) -> None:
    """:raises PipelineError: if neither this nor an earlier version of the spec declares the table."""
    dataset = tables.dataset
    declared = tables.catalogue_types()
    kind = PARTITIONED if dataset.is_monthly else ORDINARY
    if (
        found
        and found.kind == kind
        and found.columns.items() <= declared.items()
        and (found.columns.keys() == declared.keys() or tables.is_created_by_pipeline(found))
    ):
        return
    undeclared = sorted(found.columns.keys() - declared.keys()) if found else []
    if found and undeclared and tables.is_created_by_pipeline(found):
        raise PipelineError(
            f"the table {tables.schema}.{dataset.table} has columns that pipeline/datasets/{dataset.name}.yaml does not"
            f" declare: {', '.join(undeclared)}; keep columns of your own in a table of their own, with unique_row_id"
        )
    is_of_flows = dataset.is_monthly and found and found.kind == ORDINARY
    adopt = f", or if the course's Kestra flows made it: pipeline adopt {dataset.name}" if is_of_flows else ""
    raise PipelineError(
        f"the table {tables.schema}.{dataset.table} exists already and is not the one that"
        f" pipeline/datasets/{dataset.name}.yaml declares; rename it, or choose another [postgres] schema{adopt}"
    )


def _definition(column: Column) -> sql.Composed:
    return sql.SQL("{} " + column.postgres_type).format(sql.Identifier(column.name))
