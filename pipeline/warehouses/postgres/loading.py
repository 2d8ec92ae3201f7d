"""Loads a release and its marker into PostgreSQL, exactly once and atomically."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Release
from pipeline.datasets.spec import LEDGER
from pipeline.progress import Progress
from pipeline.releases import AnyReleaseFile
from pipeline.warehouses import LoadJob
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres import partitions
from pipeline.warehouses.postgres.bad_rows import BadRows
from pipeline.warehouses.postgres.connection import ConnectionLost, PostgresDatabase, execute, table_exists, value_of
from pipeline.warehouses.postgres.copy_streams import RowCopier
from pipeline.warehouses.postgres.ledger import find_load
from pipeline.warehouses.postgres.setup import ensure_tables
from pipeline.warehouses.postgres.tables import ReleaseTables
from pipeline.warehouses.postgres.watch import Watch, watched_connection

if TYPE_CHECKING:
    import datetime

logger = logging.getLogger("luigi-interface")

# A crash can lose only a table that is not published yet. The commit of the marker waits until it and everything
# written before it are on disk.
_STREAM_SESSION = {"synchronous_commit": "off"}
_INDEX_MEMORY = "256MB"


def load(database: PostgresDatabase, job: LoadJob, progress: Progress) -> LedgerEntry:
    """Returns the release's marker once all of its rows are accounted for and visible.

    A concurrent load of the same release waits and then finds it loaded. After a crash, the next call removes what was
    left and starts again. With `replace`, an earlier edition of the file is replaced in the same transaction.

    :raises PipelineError: if the load fails; nothing has changed.
    """
    tables = ReleaseTables.of(database.schema, job.release)
    failure = f"{job.release.key} was not loaded and nothing has changed"
    with (
        watched_connection(database, failure, **load_session(database)) as (control, watch),
        control.cursor() as cursor,
    ):
        ensure_tables(control, tables)
        _lock_release(cursor, tables)
        if job.release.month:
            partitions.drop_loading_table(cursor, tables)
        done = find_load(control, database.schema, job.task_family, job.release)
        if done and not job.replace:
            return done
        if job.release.month:
            _load_month(control, watch, job, tables, progress)
        else:
            _load_lookup(control, job, tables, progress)
        entry = find_load(control, database.schema, job.task_family, job.release)
        assert entry is not None
        return entry


def forget(database: PostgresDatabase, release: Release) -> bool:
    """Removes a release's rows, quarantined rows and markers in one transaction; returns whether there was a marker.

    :raises PipelineError: if this fails; nothing has changed.
    """
    tables = ReleaseTables.of(database.schema, release)
    with (
        watched_connection(database, f"{release.key} was not forgotten and nothing has changed") as (connection, _),
        connection.cursor() as cursor,
    ):
        if not table_exists(cursor, tables.identifier(LEDGER)):
            return False
        _lock_release(cursor, tables)
        with connection:
            was_loaded = _delete_load(cursor, tables)
            if release.month:
                partitions.drop_partition(cursor, tables)
                partitions.drop_loading_table(cursor, tables)
            elif was_loaded and table_exists(cursor, tables.table):
                tables.execute(cursor, "delete_rows")
            return was_loaded


def load_session(database: PostgresDatabase) -> dict[str, str]:
    """Returns the settings of the session that controls a load and builds its indexes, with a process per stream."""
    return {
        "maintenance_work_mem": _INDEX_MEMORY,
        "max_parallel_maintenance_workers": str(database.copy_streams - 1),
    }


def _lock_release(cursor: Cursor, tables: ReleaseTables) -> None:
    """Waits for other loads of the release, also for the streams of one whose controlling session was ended."""
    execute(cursor, "lock_session", {"name": tables.lock_name(tables.release.key)})
    execute(cursor, "lock_transaction", {"name": tables.streams_lock_name()})  # given back at once


@contextlib.contextmanager
def _stream(watch: Watch, tables: ReleaseTables) -> Iterator[Connection]:
    """Opens a connection to copy rows; until it ends, no other session loads the release.

    :raises ConnectionLost: if the controlling session was ended and another one has taken over already.
    """
    with watch.connect(**_STREAM_SESSION) as connection, connection.cursor() as cursor:
        if not value_of(cursor, "try_to_share_lock", {"name": tables.streams_lock_name()}):
            raise ConnectionLost(f"{tables.release.key}: its session was ended, and another one loads it now")
        yield connection


def _load_month(control: Connection, watch: Watch, job: LoadJob, tables: ReleaseTables, progress: Progress) -> None:
    try:
        with _open(job) as file, contextlib.closing(BadRows(job.release, job.max_bad_rows)) as bad_rows:
            with contextlib.ExitStack() as stack:
                count = watch.database.copy_streams
                streams = [stack.enter_context(_stream(watch, tables)) for _ in range(count)]
                # After the streams have their locks, because this fails if the session was ended before.
                with control, control.cursor() as cursor:
                    started_at = value_of(cursor, "read_clock")
                    partitions.create_loading_table(cursor, tables)
                copier = RowCopier(file, tables.loading, streams, bad_rows)
                copier.run(job.extracted.rows or None, progress)
            entry = _entry(job, file, copier, started_at)  # before locks are taken, because it checksums the whole file
            with control, control.cursor() as cursor:
                _delete_load(cursor, tables)
                duplicates = partitions.publish_partition(cursor, tables)
                bad_rows.quarantine(cursor, tables)
                entry = replace(entry, rows_loaded=entry.rows_loaded - duplicates, rows_duplicate=duplicates)
                tables.execute(cursor, "record_load", asdict(entry))
    except BaseException:
        with contextlib.suppress(psycopg2.Error), control.cursor() as cursor:
            partitions.drop_loading_table(cursor, tables)
        raise


def _load_lookup(control: Connection, job: LoadJob, tables: ReleaseTables, progress: Progress) -> None:
    with (
        _open(job) as file,
        contextlib.closing(BadRows(job.release, allowed=0)) as none,
        control,
        control.cursor() as cursor,
    ):
        started_at = value_of(cursor, "read_clock")
        _delete_load(cursor, tables)
        tables.execute(cursor, "delete_rows")
        copier = RowCopier(file, tables.table, [control], none)
        copier.run(job.extracted.rows or None, progress)
        tables.execute(cursor, "record_load", asdict(_entry(job, file, copier, started_at)))


def _open(job: LoadJob) -> AnyReleaseFile:
    file = job.open_file()
    for note in file.notes:
        logger.warning("%s: %s", file.label, note)
    return file


def _delete_load(cursor: Cursor, tables: ReleaseTables) -> bool:
    """Deletes the markers and quarantined rows of an earlier load; returns whether there was a marker."""
    tables.execute(cursor, "clear_quarantine")
    tables.execute(cursor, "delete_load")
    return bool(cursor.rowcount)


def _entry(job: LoadJob, file: AnyReleaseFile, copier: RowCopier, started_at: datetime.datetime) -> LedgerEntry:
    """Returns the marker of a load without duplicates."""
    return LedgerEntry(
        task_family=job.task_family,
        partition_key=job.release.key,
        target_table=job.release.table,
        rows_read=copier.rows_read,
        rows_loaded=copier.rows_copied,
        rows_duplicate=0,
        rows_rejected=copier.bad_rows.count,
        spec_version=job.release.dataset.version,
        started_at=started_at,
        **job.origin(file),
    )
