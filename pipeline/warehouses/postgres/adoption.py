"""Converts a table that the course's Kestra flows created into partitions with markers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import asdict

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Dataset, Release, parse_month
from pipeline.errors import PipelineError, counted
from pipeline.warehouses.ledger import ADOPTED, LedgerEntry
from pipeline.warehouses.postgres.connection import PostgresDatabase, execute, value_of
from pipeline.warehouses.postgres.ledger import all_loads, find_load
from pipeline.warehouses.postgres.loading import load_session
from pipeline.warehouses.postgres.partitions import create_loading_table, publish_partition
from pipeline.warehouses.postgres.setup import ORDINARY, create_tables, declared_types, describe_table, lock_setup
from pipeline.warehouses.postgres.tables import ReleaseTables, Tables
from pipeline.warehouses.postgres.watch import watched_connection

KEPT_AS = "{}_of_the_flows"
_MONTH = re.compile(r"\d{4}-\d{2}")
_SHOWN = 3

Observer = Callable[[LedgerEntry, int, int], None]


def adopt(
    database: PostgresDatabase, dataset: Dataset, task_family: str, recompute_ids: bool, observe: Observer
) -> list[LedgerEntry]:
    """Converts the flows' ordinary table of a monthly dataset into the pipeline's partitioned one, in one transaction.

    Each file in it becomes a partition with a marker of `task_family` whose `source` is `ADOPTED`. Repeated ids are
    handled as in a load. The old table is kept under the name `KEPT_AS`. `observe` is called for each file after its
    rows are copied and before the commit, with its marker, its number and the number of files.

    :raises PipelineError: if the flows did not create the table, or if its ids differ from the computed ones and
        `recompute_ids` is false; nothing has changed, and neither has it after a crash.
    """
    tables = Tables(database.schema, dataset)
    failure = f"{database.schema}.{dataset.table} was not adopted and nothing has changed"
    with (
        watched_connection(database, failure, **load_session(database)) as (connection, _),
        connection,
        connection.cursor() as cursor,
    ):
        lock_setup(cursor, tables)
        try:
            kept = _replace_table(cursor, tables)
            files = _survey(cursor, tables, kept, recompute_ids)
            entries = []
            index = KEPT_AS.format(dataset.table) + "_file"
            execute(cursor, "create_filename_index", index=sql.Identifier(index), kept=kept)
            for number, (release, rows) in enumerate(files.items(), 1):
                entries.append(_adopt_file(cursor, ReleaseTables.of(database.schema, release), kept, task_family, rows))
                observe(entries[-1], number, len(files))
            execute(cursor, "drop_index", index=tables.identifier(index))
        except PipelineError as error:
            raise PipelineError(f"{failure}: {error}") from None
    return entries


def _replace_table(cursor: Cursor, tables: Tables) -> sql.Identifier:
    """Renames the flows' table and creates the pipeline's in its place; returns the old table's new name."""
    _check(cursor, tables)  # without waiting for those who use a table that is refused
    tables.execute(cursor, "lock_table")
    _check(cursor, tables)
    name = KEPT_AS.format(tables.dataset.table)
    kept = tables.identifier(name)
    if describe_table(cursor, kept):
        raise PipelineError(f"it would be kept as {name}, but a table of that name exists; rename or drop that one")
    tables.execute(cursor, "rename_table", name=sql.Identifier(name))
    create_tables(cursor, tables)
    if loads := [e for e in all_loads(cursor.connection, tables.schema) if e.target_table == tables.dataset.table]:
        raise PipelineError(
            f"load_ledger has {len(loads)} of its months, the first is {loads[0].partition_key}; remove them first"
            " with `pipeline forget`"
        )
    return kept


def _check(cursor: Cursor, tables: Tables) -> None:
    """:raises PipelineError: if there is no such table or the flows did not create it."""
    found = describe_table(cursor, tables.table)
    if not found:
        raise PipelineError("there is no such table")
    if found.is_created_by_pipeline(tables.dataset):
        raise PipelineError("it is already a table of this pipeline, so there is nothing to adopt")
    if found.kind != ORDINARY:
        raise PipelineError("it is not an ordinary table")
    declared = declared_types(tables.dataset)
    required = {"unique_row_id", "filename", *_columns(tables.dataset)}
    if missing := sorted(required - found.columns.keys()):
        raise PipelineError(f"it lacks the columns {', '.join(missing)}, so the flows did not create it")
    if unknown := sorted(found.columns.keys() - required):
        raise PipelineError(f"it has columns that the flows do not create: {', '.join(unknown)}; drop them first")
    for name, type_ in found.columns.items():
        if type_ != declared[name]:
            raise PipelineError(f"its column {name} is {type_}, not {declared[name]}; change its type first")


def _columns(dataset: Dataset) -> list[str]:
    """Returns the columns that the flows load: those of the first source's files."""
    source = dataset.sources[0]
    return [column.name for column in dataset.columns_of(source.first_month, source)]


def _survey(cursor: Cursor, tables: Tables, kept: sql.Identifier, recompute_ids: bool) -> dict[Release, int]:
    """Returns the row count of each file in the table.

    :raises PipelineError: if there are no rows, rows of an unknown file, or ids that differ from the computed ones.
    """
    tables.execute(cursor, "survey_old_table", kept=kept)
    files: dict[Release, int] = {}
    mismatches = list[str]()
    for filename, rows, other_ids in cursor.fetchall():
        files[_release(tables.dataset, filename, rows)] = rows
        if other_ids:
            mismatches.append(f"{filename} {other_ids:,} of {rows:,}")
    if not files:
        raise PipelineError("it has no rows; drop it")
    if mismatches and not recompute_ids:
        more = f" and {counted(len(mismatches) - _SHOWN, 'more file')}" if mismatches[_SHOWN:] else ""
        raise PipelineError(
            f"rows whose unique_row_id is not the one that the flows compute: {'; '.join(mismatches[:_SHOWN])}{more};"
            " use --recompute-ids to adopt them with recomputed ids"
        )
    return files


def _release(dataset: Dataset, filename: str | None, rows: int) -> Release:
    with contextlib.suppress(ValueError):
        for text in _MONTH.findall(filename or ""):
            release = Release(dataset, parse_month(text))
            if release.filename == filename:
                return release
    found = f"the filename {filename!r}, which is not a file of {dataset.name}" if filename else "no filename"
    raise PipelineError(f"{rows:,} rows have {found}; delete or correct them first")


def _adopt_file(
    cursor: Cursor, tables: ReleaseTables, kept: sql.Identifier, task_family: str, rows: int
) -> LedgerEntry:
    started_at = value_of(cursor, "read_clock")
    tables.execute(cursor, "clear_quarantine")
    create_loading_table(cursor, tables)
    columns = sql.SQL(", ").join(map(sql.Identifier, _columns(tables.dataset)))
    tables.execute(cursor, "copy_old_rows", columns=columns, kept=kept)
    duplicates = publish_partition(cursor, tables)
    entry = LedgerEntry(
        task_family=task_family,
        partition_key=tables.release.key,
        target_table=tables.release.table,
        source_url=f"{ADOPTED} from {tables.schema}.{KEPT_AS.format(tables.release.table)}",
        source_bytes=0,
        source_sha256="",
        rows_read=rows,
        rows_loaded=rows - duplicates,
        rows_duplicate=duplicates,
        rows_rejected=0,
        spec_version=tables.dataset.version,
        started_at=started_at,
        source=ADOPTED,
    )
    tables.execute(cursor, "record_load", asdict(entry))
    written = find_load(cursor.connection, tables.schema, task_family, tables.release)
    assert written is not None
    return written
