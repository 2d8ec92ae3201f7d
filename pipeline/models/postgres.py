"""The models in PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.models.project import modelled_specs
from pipeline.warehouses.dbt_build import Build
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres import PostgresDatabase, all_loads
from pipeline.warehouses.postgres.dbt_build import find_build, record_build
from pipeline.warehouses.postgres.faults import explained
from pipeline.warehouses.postgres.tables import Tables, ensure_tables

# In the profile, or dbt's own.
_NOT_FOR_LIBPQ = {"host", "port", "user", "dbname", "connect_timeout", "application_name", "fallback_application_name"}


@dataclass(frozen=True)
class PostgresModels:
    """The models in one schema, made from the tables of another or the same. Implements `ModelWarehouse`."""

    database: PostgresDatabase
    schema: str
    threads: int

    @property
    def target(self) -> str:
        return "postgres"

    def environment(self) -> dict[str, str]:
        with contextlib.closing(self.database.connect()) as connection:
            # Asked of a connection, as service files, password files and variables have then had their say.
            info = connection.info
            host, port, user, dbname = info.host, info.port, info.user, info.dbname
            password, given = info.password, info.dsn_parameters
        libpq = {
            "PG" + name.replace("_", "").upper(): value for name, value in given.items() if name not in _NOT_FOR_LIBPQ
        }
        return {
            **libpq,
            **({"PGPASSWORD": password} if password else {}),
            "TLC_POSTGRES_HOST": host,
            "TLC_POSTGRES_PORT": str(port),
            "TLC_POSTGRES_USER": user,
            "TLC_POSTGRES_DBNAME": dbname,
            "TLC_SCHEMA": self.schema,
            "TLC_THREADS": str(self.threads),
            "TLC_SOURCE_SCHEMA": self.database.schema,
        }

    def loads(self) -> Sequence[LedgerEntry]:
        return all_loads(self.database)

    def prepare(self) -> None:
        with explained("what the models read", "made"), contextlib.closing(self.database.connect()) as connection:
            for spec in modelled_specs():
                ensure_tables(connection, Tables(self.database.schema, spec))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with contextlib.closing(self.database.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"pipeline dbt {self.schema}",))
            yield

    def last_build(self) -> Build | None:
        with contextlib.closing(self.database.connect()) as connection:
            return find_build(connection, self.schema)

    def record(self, build: Build) -> None:
        with explained("the dbt models' marker", "written"), contextlib.closing(self.database.connect()) as connection:
            record_build(connection, self.schema, build)
