"""The tables, and the names of everything that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Dataset, Release
from pipeline.datasets.spec import QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.postgres.connection import lock_transaction, statement
from pipeline.warehouses.postgres.ledger import ledger_table

_CATALOGUE_TYPES = {"timestamp": "timestamp without time zone"}
_PARTITIONED, _PLAIN = "p", "r"


@dataclass(frozen=True)
class Tables:
    """The identifiers of one dataset's objects in one schema."""

    schema: str
    dataset: Dataset

    def named(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)

    @property
    def table(self) -> sql.Identifier:
        return self.named(self.dataset.table)

    @property
    def ledger(self) -> sql.Identifier:
        return ledger_table(self.schema)

    @property
    def quarantine(self) -> sql.Identifier:
        return self.named(QUARANTINE)

    @property
    def row_id_function(self) -> sql.Identifier:
        return self.named(f"{self.dataset.table}_row_id")

    @property
    def comment(self) -> str:
        """The table's comment, which also tells which version of the spec the table was made by."""
        return f"{self.dataset.title} (pipeline/datasets/{self.dataset.name}.yaml, version {self.dataset.version})"

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
    def row_id_argument_types(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.SQL, self.row_key_types))

    @property
    def column_definitions(self) -> sql.Composed:
        return sql.SQL(",\n    ").join(
            sql.SQL("{} " + column.postgres_type).format(sql.Identifier(column.name)) for column in self.dataset.columns
        )

    def lock_name(self, key: str = "") -> str:
        """The advisory lock of publishing into the table, or of loading one release into it."""
        return f"pipeline {self.schema}.{self.dataset.table} {key}"


@dataclass(frozen=True)
class ReleaseTables(Tables):
    """The identifiers of one release's objects: while it is loading, and once it is published."""

    release: Release

    @classmethod
    def of(cls, schema: str, release: Release) -> ReleaseTables:
        """The identifiers of a release's objects in a schema."""
        return cls(schema, release.dataset, release)

    @property
    def partition_name(self) -> str:
        """The partition's name, e.g. `green_tripdata_2019_01`."""
        assert self.release.month
        return f"{self.release.table}_{self.release.month:%Y_%m}"

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
        return sql.Literal(self.release.filename)

    def index_names(self) -> tuple[tuple[str, str], ...]:
        """The names of the partition's indexes, while loading and when published."""
        return tuple((f"{self.loading_name}_{what}", f"{self.partition_name}_{what}") for what in ("id", "time"))


def ensure_tables(connection: Connection, tables: Tables) -> None:
    """Returns when the dataset's table, the ledger and the quarantine stand as the spec says; harmless to repeat.

    :raises PipelineError: when a table of that name is there already and is not the spec's.
    """
    with connection.cursor() as cursor:
        found = _columns(cursor, connection, tables)
        if found:
            _check(tables, found)
        if not found or not _is_set_up(cursor, connection, tables):
            with connection:
                lock_set_up(cursor)
                _create(cursor, tables)
            _check(tables, _columns(cursor, connection, tables))


def lock_set_up(cursor: Cursor) -> None:
    """Lets one transaction at a time change what all months share; PostgreSQL does not put such changes in a queue."""
    lock_transaction(cursor, "pipeline set-up")


def ensure_schema(cursor: Cursor, schema: str) -> None:
    """Creates the schema if it is missing; where it is there, no right to create one is needed."""
    cursor.execute(statement("schema_is_missing"), {"schema": schema})
    if (row := cursor.fetchone()) and row[0]:
        cursor.execute(statement("create_schema", schema=sql.Identifier(schema)))


def _is_set_up(cursor: Cursor, connection: Connection, tables: Tables) -> bool:
    names = {name: getattr(tables, name).as_string(connection) for name in ("table", "ledger", "quarantine")}
    cursor.execute(statement("select_setup"), names | {"comment": tables.comment})
    row = cursor.fetchone()
    return bool(row and row[0])


def _columns(cursor: Cursor, connection: Connection, tables: Tables) -> list[tuple[str, str, str]]:
    cursor.execute(statement("select_columns"), {"table": tables.table.as_string(connection)})
    return list(cursor.fetchall())


def _create(cursor: Cursor, tables: Tables) -> None:
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
    _comment(cursor, tables)


def _create_row_id_function(cursor: Cursor, tables: Tables) -> None:
    # concat() writes a boolean as t, unlike a cast to text and everybody else, who write true.
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
    function = tables.named(f"{tables.dataset.table}_refuse_duplicate_id")
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


def _check(tables: Tables, found: list[tuple[str, str, str]]) -> None:
    dataset = tables.dataset
    kind = _PARTITIONED if dataset.is_monthly else _PLAIN
    wanted = [("unique_row_id", "text"), ("filename", "text")] if dataset.is_monthly else []
    wanted += [(c.name, _CATALOGUE_TYPES.get(c.postgres_type, c.postgres_type)) for c in dataset.columns]
    if found[0][0] == kind and [(name, type_) for _, name, type_ in found] == wanted:
        return
    raise PipelineError(
        f"the table {tables.schema}.{dataset.table} is there already and is not the one that"
        f" pipeline/datasets/{dataset.name}.yaml declares; rename it, or choose another schema with --postgres-schema"
    )
