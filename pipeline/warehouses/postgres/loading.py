"""Loads a file into PostgreSQL: wholly, once, with its marker; or not at all."""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import DatasetSpec
from pipeline.datasets.release_file import ReleaseFile
from pipeline.progress import Progress
from pipeline.warehouses.file_job import FileJob
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.faults import explained
from pipeline.warehouses.postgres.ledger import find_load, record_load
from pipeline.warehouses.postgres.partitions import (
    MonthTables,
    create_loading_table,
    drop_loading_table,
    withdraw_month,
)
from pipeline.warehouses.postgres.publishing import (
    clear_quarantine,
    index_month,
    publish_month,
    quarantine_malformed,
)
from pipeline.warehouses.postgres.staging import Staged, Stager
from pipeline.warehouses.postgres.statements import statement
from pipeline.warehouses.postgres.tables import Tables, ensure_tables

# What a crash may take is a table that nobody has seen yet; the marker's own commit waits for the disk, and for
# everything written before it.
_STREAM_SESSION = {"synchronous_commit": "off"}
_INDEX_MEMORY = "256MB"


@dataclass(frozen=True)
class LoadJob(FileJob):
    """One extracted file to load. `rows_expected` only serves the progress shown."""

    file: Path
    source_url: str
    rows_expected: int | None
    max_bad_rows: int = 0
    replace: bool = False


def load(database: PostgresDatabase, job: LoadJob, progress: Progress) -> LedgerEntry:
    """Returns the file's marker once all of its rows are accounted for and visible.

    Two loads of one file at once: the second waits and finds it done. Killed at any moment, the next call starts
    clean. With `replace`, what was loaded from an earlier edition of the file gives way in the same transaction.

    :raises PipelineError: in which case nothing has changed.
    """
    with explained(job.partition_key, "loaded"), contextlib.closing(_connect(database)) as control:
        tables = Tables(database.schema, job.spec)
        ensure_tables(control, tables)
        with control.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (tables.lock_name(job.partition_key),))
        month = MonthTables(database.schema, job.spec, job.month) if job.month else None
        if month:
            drop_loading_table(control, month)
        done = find_load(control, tables.ledger, job.task_family, job.partition_key)
        if done and not job.replace:
            return done
        if month:
            _load_month(database, control, job, month, progress)
        else:
            _load_lookup(control, job, tables, progress)
        entry = find_load(control, tables.ledger, job.task_family, job.partition_key)
        assert entry is not None
        return entry


def forget(database: PostgresDatabase, spec: DatasetSpec, month: datetime.date | None) -> bool:
    """Removes a file's rows, quarantined ones too, and its markers, all at once; says whether there was a marker.

    :raises PipelineError: in which case nothing has changed.
    """
    tables, key = Tables(database.schema, spec), spec.partition_key(month)
    with (
        explained(key, "forgotten"),
        contextlib.closing(database.connect()) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT to_regclass(%s)", (tables.table.as_string(connection),))
        if (row := cursor.fetchone()) is None or row[0] is None:
            return False
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (tables.lock_name(key),))
        with connection:
            was_loaded = _forget_entry(cursor, tables, key, spec.filename(month))
            if month:
                of_month = MonthTables(database.schema, spec, month)
                withdraw_month(cursor, of_month)
                cursor.execute(statement("drop_table", table=of_month.loading))
            elif was_loaded:
                cursor.execute(statement("delete_rows", table=tables.table))
            return was_loaded


def _connect(database: PostgresDatabase) -> Connection:
    """The connection that steers a load and builds its indexes, with as many processes as there are streams."""
    return database.connect(
        maintenance_work_mem=_INDEX_MEMORY, max_parallel_maintenance_workers=str(database.copy_streams - 1)
    )


def _load_month(
    database: PostgresDatabase, control: Connection, job: LoadJob, month: MonthTables, progress: Progress
) -> None:
    started_at = datetime.datetime.now(datetime.UTC)
    create_loading_table(control, month)
    try:
        with ReleaseFile(job.file, job.spec) as release, contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(contextlib.closing(database.connect(**_STREAM_SESSION)))
                for _ in range(database.copy_streams)
            ]
            staged = Stager(release, month.loading, streams, job.max_bad_rows).run(job.rows_expected, progress)
        with control, control.cursor() as cursor:
            _forget_entry(cursor, month, job.partition_key, job.filename)
            duplicates = index_month(cursor, month)
            duplicates += publish_month(cursor, month)
            quarantine_malformed(cursor, month, job.filename, staged.malformed)
            record_load(cursor, month.ledger, _entry(job, release, staged, duplicates, started_at))
    except BaseException:
        with contextlib.suppress(psycopg2.Error):
            drop_loading_table(control, month)
        raise


def _load_lookup(control: Connection, job: LoadJob, tables: Tables, progress: Progress) -> None:
    started_at = datetime.datetime.now(datetime.UTC)
    with ReleaseFile(job.file, job.spec) as release, control, control.cursor() as cursor:
        _forget_entry(cursor, tables, job.partition_key, job.filename)
        cursor.execute(statement("delete_rows", table=tables.table))
        staged = Stager(release, tables.table, [control], max_bad_rows=0).run(job.rows_expected, progress)
        record_load(cursor, tables.ledger, _entry(job, release, staged, 0, started_at))


def _forget_entry(cursor: Cursor, tables: Tables, partition_key: str, filename: str) -> bool:
    clear_quarantine(cursor, tables, filename)
    cursor.execute(
        statement("forget_load", ledger=tables.ledger),
        {"target_table": tables.spec.table, "partition_key": partition_key},
    )
    return bool(cursor.rowcount)


def _entry(
    job: LoadJob, release: ReleaseFile, staged: Staged, duplicates: int, started_at: datetime.datetime
) -> LedgerEntry:
    return LedgerEntry(
        task_family=job.task_family,
        partition_key=job.partition_key,
        target_table=job.spec.table,
        source_url=job.source_url,
        source_bytes=release.bytes_read,
        source_sha256=release.sha256,
        rows_read=staged.rows_read,
        rows_loaded=staged.rows_copied - duplicates,
        rows_duplicate=duplicates,
        rows_rejected=len(staged.malformed),
        spec_version=job.spec.version,
        started_at=started_at,
    )
