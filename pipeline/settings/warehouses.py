"""Settings of the warehouses."""

from __future__ import annotations

import luigi

from pipeline.settings.files import storage
from pipeline.settings.section import Section
from pipeline.warehouses.postgres import PostgresDatabase


class postgres(Section):
    """Which PostgreSQL to load."""

    dsn: str = luigi.Parameter(
        default="",
        significant=False,
        description="a libpq URL or key=value string; empty: the embedded PostgreSQL below [storage] root",
    )
    schema: str = luigi.Parameter(default="public", description="the schema to work in; created if missing")
    copy_streams: int = luigi.IntParameter(default=2, description="COPY streams a load, each a connection")
    idle_minutes: float = luigi.FloatParameter(
        default=15, description="minutes after its last use when the embedded server stops itself; 0: never"
    )

    def database(self) -> PostgresDatabase:
        """The configured database; the embedded one is started if it does not run."""
        dsn = self.dsn
        if not dsn:
            from pipeline.warehouses.postgres.embedded import ensure_running

            dsn = ensure_running(storage().postgres_folder(), self.idle_minutes)
        return PostgresDatabase(dsn, self.schema, max(1, self.copy_streams))
