"""The PostgreSQL adapter, which implements `Warehouse`."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor

from pipeline.datasets import Dataset, Release
from pipeline.datasets.spec import SPECS
from pipeline.settings import DbtSettings, PostgresSettings, StorageSettings
from pipeline.warehouses import DbtProfile, LoadJob, LoadObserver, Rows
from pipeline.warehouses.checksums import FileChecksums
from pipeline.warehouses.ledger import Build, LedgerEntry, entries_of
from pipeline.warehouses.postgres import embedded
from pipeline.warehouses.postgres.connection import COMMON_SESSION, ConnectionLost, PostgresDatabase, execute
from pipeline.warehouses.postgres.ledger import all_loads, find_build, find_load, record_build
from pipeline.warehouses.postgres.loading import forget, load
from pipeline.warehouses.postgres.partitions import file_checksums, orphaned_duplicates
from pipeline.warehouses.postgres.setup import ensure_schema, ensure_tables
from pipeline.warehouses.postgres.tables import Tables
from pipeline.warehouses.postgres.watch import watched_connection

logger = logging.getLogger("luigi-interface")

_WAITS_AFTER_LOST_CONNECTION = (1, 5, 15)
_LONGEST_WAIT_TO_COUNT = "3s"  # for a lock: the number is only shown
_MARK_OF_LOADED = f"({SPECS}/"  # in `Dataset.table_comment`
_MARK_OF_MODELS = "(made by tlc-pipeline)"  # the text in dbt/macros/marks.sql
# Connection parameters that the dbt profile sets, or that dbt chooses itself.
_PASSED_IN_PROFILE = {
    "host",
    "port",
    "user",
    "dbname",
    "connect_timeout",
    "application_name",
    "fallback_application_name",
}


def configured() -> PostgresWarehouse:
    """Returns the adapter of the configured database, which is the embedded one if no DSN is set."""
    database, dbt = configured_database(), DbtSettings()
    return PostgresWarehouse(database, dbt.schema or database.schema, dbt.threads)


def configured_database() -> PostgresDatabase:
    """Returns the configured database. Connecting starts the embedded server; this function does not."""
    settings = PostgresSettings()
    start = functools.partial(embedded.ensure_running, StorageSettings().postgres_folder(), settings.idle_minutes)
    return PostgresDatabase(
        settings.dsn,
        settings.schema,
        settings.copy_streams,
        start,
        settings.connect_timeout,
        settings.lock_timeout,
        settings.answer_timeout,
    )


@dataclass(frozen=True)
class PostgresWarehouse:
    """A PostgreSQL database, and the schema of its marts. Implements `Warehouse`."""

    database: PostgresDatabase
    marts_schema: str
    dbt_threads: int = 4

    def load(self, job: LoadJob, observer: LoadObserver) -> LedgerEntry:
        for wait in _WAITS_AFTER_LOST_CONNECTION:
            try:
                return load(self.database, job, observer.progress)
            except ConnectionLost as error:
                logger.warning("%s; trying again in %s s", error, wait)
                time.sleep(wait)
        return load(self.database, job, observer.progress)

    def forget(self, release: Release) -> bool:
        return forget(self.database, release)

    def orphaned_duplicates(self, dataset: Dataset) -> Mapping[str, int]:
        failure = f"the duplicates in {dataset.table} were not counted"
        with self._connection(failure, lock_timeout=_LONGEST_WAIT_TO_COUNT) as connection:
            return orphaned_duplicates(connection, Tables(self.database.schema, dataset))

    def find_load(self, task_family: str, release: Release) -> LedgerEntry | None:
        with self._connection("the ledger cannot be read") as connection:
            return find_load(connection, self.database.schema, task_family, release)

    def find_loads(self, task_family: str, releases: Iterable[Release]) -> Mapping[str, LedgerEntry]:
        return entries_of(self.loaded(), task_family, releases)

    def loaded(self) -> Sequence[LedgerEntry]:
        with self._connection("the ledger cannot be read") as connection:
            return all_loads(connection, self.database.schema)

    def checksums(self, release: Release) -> FileChecksums:
        with self._connection(f"{release.key} was not compared") as connection:
            return file_checksums(connection, self.database.schema, release)

    def count_command(self, table: str) -> str:
        return f"pipeline psql -c 'select count(*) from {table}'"

    def dbt_profile(self) -> DbtProfile:
        with self._connection("dbt cannot be started") as connection, connection.cursor() as cursor:
            execute(cursor, "select_defaults", {"names": list(COMMON_SESSION)})
            others = [name for name, value in cursor.fetchall() if value != COMMON_SESSION[name]]
            # Read from an open connection, which reflects service files, password files and environment variables.
            info = connection.info
            host, port, user, dbname = info.host, info.port, info.user, info.dbname
            password, parameters = info.password, info.dsn_parameters
        libpq = {
            "PG" + name.replace("_", "").upper(): value
            for name, value in parameters.items()
            if name not in _PASSED_IN_PROFILE
        }
        if others:  # otherwise not, as a pooler may refuse options
            settings = (name + "=" + COMMON_SESSION[name].replace(" ", "\\ ") for name in others)
            libpq["PGOPTIONS"] = " -c ".join([parameters.get("options", ""), *settings]).strip()
        environment = {
            **libpq,
            "DBT_ENV_SECRET_POSTGRES_PASSWORD": password or "",
            "TLC_POSTGRES_HOST": host,
            "TLC_POSTGRES_PORT": str(port),
            "TLC_POSTGRES_USER": user,
            "TLC_POSTGRES_DBNAME": dbname,
            "TLC_SCHEMA": self.marts_schema,
            "TLC_THREADS": str(self.dbt_threads),
            "TLC_SOURCE_SCHEMA": self.database.schema,
        }
        return DbtProfile("postgres", environment, self.database.process_environment())

    def prepare_build(self, datasets: Iterable[Dataset]) -> None:
        with self._connection("the tables that the models read were not created") as connection:
            for dataset in datasets:
                ensure_tables(connection, Tables(self.database.schema, dataset))

    @contextlib.contextmanager
    def build_lock(self) -> Iterator[Callable[[], None]]:
        with (
            self._connection("the models are not locked", lock_timeout="0") as connection,
            connection.cursor() as cursor,
        ):
            execute(cursor, "lock_session", {"name": f"pipeline dbt {self.marts_schema}"})
            yield functools.partial(execute, cursor, "read_clock")  # works as long as the session that has the lock

    def last_build(self) -> Build | None:
        with self._connection("the models' marker cannot be read") as connection:
            return find_build(connection, self.marts_schema)

    def foreign_relations(self, models: Collection[str], loaded: Collection[str]) -> list[str]:
        found = list[str]()
        with self._connection("the models' relations cannot be listed") as connection, connection.cursor() as cursor:
            for schema, names, mark in (
                (self.database.schema, loaded, _MARK_OF_LOADED),
                (self.marts_schema, models, _MARK_OF_MODELS),
            ):
                execute(cursor, "select_relations", {"schema": schema, "names": [*names]})
                found += [f"{schema}.{name}" for name, comment in cursor.fetchall() if mark not in comment]
        return found

    def has_relations(self, names: Collection[str]) -> bool:
        with self._connection("the models' relations cannot be looked at") as connection, connection.cursor() as cursor:
            execute(cursor, "select_relations", {"schema": self.marts_schema, "names": [*names]})
            return {name for name, _ in cursor.fetchall()} == {*names}

    def record_build(self, build: Build) -> None:
        with (
            self._connection("the models' marker was not written") as connection,
            connection,
            connection.cursor() as cursor,
        ):
            ensure_schema(cursor, self.marts_schema)
            record_build(cursor, self.marts_schema, build)

    def select(self, query: str, marts: Iterable[str] = ()) -> Rows:
        names = {mart: sql.Identifier(self.marts_schema, mart) for mart in marts}
        with (
            self._connection("the report cannot be made") as connection,
            connection.cursor(cursor_factory=RealDictCursor) as cursor,
        ):
            cursor.execute(sql.SQL(query).format(**names))
            return [dict(row) for row in cursor.fetchall()]

    @contextlib.contextmanager
    def _connection(self, failure: str, **session: str) -> Iterator[Connection]:
        with watched_connection(self.database, failure, **session) as (connection, _):
            yield connection
