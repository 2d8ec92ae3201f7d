"""Takes over a table that the course's Kestra flows made: its rows become partitions, each with its marker."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Dataset, Release, parse_month
from pipeline.errors import PipelineError
from pipeline.warehouses.ledger import ADOPTED, LedgerEntry
from pipeline.warehouses.postgres.connection import PostgresDatabase, lock_transaction, statement, translate_errors
from pipeline.warehouses.postgres.ledger import all_loads, find_load, record_load
from pipeline.warehouses.postgres.loading import connect_to_load
from pipeline.warehouses.postgres.partitions import create_loading_table, index_partition, publish_partition
from pipeline.warehouses.postgres.quarantine import clear_quarantine
from pipeline.warehouses.postgres.tables import ReleaseTables, Tables, create_tables, found_table, lock_set_up
from pipeline.warehouses.postgres.watch import watched

KEPT_AS = "{}_of_the_flows"
_MONTH = re.compile(r"\d{4}-\d{2}")
_SHOWN = 3

Observer = Callable[[LedgerEntry, int, int], None]


def adopt(
    database: PostgresDatabase, dataset: Dataset, task_family: str, recompute_ids: bool, observe: Observer
) -> list[LedgerEntry]:
    """Makes the plain table of a monthly dataset, as the flows left it, the pipeline's own, in one transaction.

    Each file in it becomes a partition with a marker of `task_family`, whose `source` is `ADOPTED`; rows that repeat an
    id are treated as a load treats them. The table itself stays, under the name `KEPT_AS`. `observe` is called with the
    marker of each file when its rows are in place, before the commit, with its number and the number of files.

    :raises PipelineError: when it is no such table, or, without `recompute_ids`, has other ids than those computed
        here; nothing has changed then, nor after a crash.
    """
    tables = Tables(database.schema, dataset)
    what = f"{database.schema}.{dataset.table} was not adopted and nothing has changed"
    with (
        translate_errors(what),
        contextlib.closing(connect_to_load(database)) as connection,
        watched(database, connection, what),
        connection,
        connection.cursor() as cursor,
    ):
        lock_set_up(cursor)
        lock_transaction(cursor, tables.lock_name())
        try:
            kept = _make_room(cursor, tables)
            files = _survey(cursor, tables, kept, recompute_ids)
            entries = []
            index = sql.Identifier(KEPT_AS.format(dataset.table) + "_file")
            cursor.execute(statement("create_filename_index", index=index, kept=kept))
            for number, (release, rows) in enumerate(files.items(), 1):
                entries.append(_adopt_file(cursor, ReleaseTables.of(database.schema, release), kept, task_family, rows))
                observe(entries[-1], number, len(files))
            cursor.execute(statement("drop_index", index=tables.named(KEPT_AS.format(dataset.table) + "_file")))
        except PipelineError as error:
            raise PipelineError(f"{what}: {error}") from None
    return entries


def _make_room(cursor: Cursor, tables: Tables) -> sql.Identifier:
    """Renames the flows' table and makes ours in its place; returns the new name of theirs."""
    if found_table(cursor, tables.table):
        cursor.execute(statement("lock_table", table=tables.table))
    _check(cursor, tables)
    name = KEPT_AS.format(tables.dataset.table)
    kept = tables.named(name)
    if found_table(cursor, kept):
        raise PipelineError(f"it would be kept as {name}, and there is a table of that name: rename or drop that")
    cursor.execute(statement("rename_table", table=tables.table, name=sql.Identifier(name)))
    create_tables(cursor, tables)
    if loads := [e for e in all_loads(cursor.connection, tables.schema) if e.target_table == tables.dataset.table]:
        raise PipelineError(
            f"load_ledger says that {len(loads)} of its months are loaded, {loads[0].partition_key} the first;"
            " `pipeline forget` them before"
        )
    return kept


def _check(cursor: Cursor, tables: Tables) -> None:
    """:raises PipelineError: when there is no table there, or not one that the flows made."""
    found = found_table(cursor, tables.table)
    if not found:
        raise PipelineError("there is no such table")
    if tables.is_ours(found.comment):
        raise PipelineError("it is the pipeline's own already")
    if not found.is_plain:
        raise PipelineError("it is not an ordinary table")
    wanted = tables.catalogue_types()
    required = {"unique_row_id", "filename", *_columns(tables.dataset)}
    if missing := sorted(required - found.columns.keys()):
        raise PipelineError(f"it lacks the columns {', '.join(missing)}, so the flows did not make it")
    if unknown := sorted(found.columns.keys() - required):
        raise PipelineError(f"it has columns that the flows' has not: {', '.join(unknown)}; drop them first")
    for name, type_ in found.columns.items():
        if type_ != wanted[name]:
            raise PipelineError(f"its column {name} is {type_}, not {wanted[name]}; change its type first")


def _columns(dataset: Dataset) -> list[str]:
    """The columns that the flows know: those of the files that they load, the first source's."""
    source = dataset.sources[0]
    return [column.name for column in dataset.columns_of(source.first_month, source)]


def _survey(cursor: Cursor, tables: Tables, kept: sql.Identifier, recompute_ids: bool) -> dict[Release, int]:
    """The files in the table, with their numbers of rows.

    :raises PipelineError: when there are none, rows of no release, or ids that were computed in another way.
    """
    cursor.execute(
        statement("survey_kept_table", function=tables.row_id_function, key_values=tables.key_values, kept=kept)
    )
    files: dict[Release, int] = {}
    strange = list[str]()
    for filename, rows, other_ids in cursor.fetchall():
        files[_release(tables.dataset, filename, rows)] = rows
        if other_ids:
            strange.append(f"{filename} {other_ids:,} of {rows:,}")
    if not files:
        raise PipelineError("it has no rows; drop it")
    if strange and not recompute_ids:
        more = f" and {len(strange) - _SHOWN} more files" if strange[_SHOWN:] else ""
        raise PipelineError(
            f"rows with another unique_row_id than the flows compute: {'; '.join(strange[:_SHOWN])}{more};"
            " --recompute-ids adopts them with the ids computed anew"
        )
    return files


def _release(dataset: Dataset, filename: str | None, rows: int) -> Release:
    with contextlib.suppress(ValueError):
        for text in _MONTH.findall(filename or ""):
            release = Release(dataset, parse_month(text))
            if release.filename == filename:
                return release
    named = f"the filename {filename!r}" if filename else "no filename"
    raise PipelineError(f"{rows:,} rows have {named}, which is no file of {dataset.name}; delete or correct them first")


def _adopt_file(
    cursor: Cursor, tables: ReleaseTables, kept: sql.Identifier, task_family: str, rows: int
) -> LedgerEntry:
    started_at = datetime.datetime.now(datetime.UTC)
    clear_quarantine(cursor, tables)
    create_loading_table(cursor, tables)
    columns = sql.SQL(", ").join(map(sql.Identifier, _columns(tables.dataset)))
    cursor.execute(
        statement("copy_kept_rows", loading=tables.loading, columns=columns, kept=kept, filename=tables.filename)
    )
    duplicates = index_partition(cursor, tables)
    duplicates += publish_partition(cursor, tables)
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
    record_load(cursor, tables.schema, entry)
    written = find_load(cursor.connection, tables.schema, task_family, tables.release)
    assert written is not None
    return written
