"""Settings: the sections of `luigi.cfg`, each also set by `PIPELINE__<SECTION>__<KEY>` or `--<section>-<key>`."""

from __future__ import annotations

import os
from pathlib import Path

import luigi
import luigi.configuration

from pipeline.extract.download import HttpOptions
from pipeline.warehouses.postgres import PostgresDatabase

ENVIRONMENT_PREFIX = "PIPELINE__"
RELEASE_MIRROR = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download"


class source(luigi.Config):
    """Where release files come from."""

    base_url: str = luigi.Parameter(
        default=RELEASE_MIRROR, description="the release site, or a mirror of it: an http(s) or file URL, or a folder"
    )
    connect_timeout: float = luigi.FloatParameter(default=10, description="seconds to wait for a connection")
    read_timeout: float = luigi.FloatParameter(default=60, description="seconds to wait for the next bytes")
    retries: int = luigi.IntParameter(default=4, description="how often to try again without any progress")
    longest_wait: float = luigi.FloatParameter(default=60, description="seconds to wait between two tries, at most")

    def http_options(self) -> HttpOptions:
        return HttpOptions(self.connect_timeout, self.read_timeout, self.retries, self.longest_wait)


class storage(luigi.Config):
    """Where files are kept."""

    root: str = luigi.Parameter(default="data", description="the folder for raw files, the embedded database and logs")
    keep_raw: bool = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="keep a raw file after it has been loaded",
    )

    def raw_file(self, source_path: str) -> Path:
        return Path(self.root) / "raw" / source_path


class postgres(luigi.Config):
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

            dsn = ensure_running(Path(storage().root) / "postgres", self.idle_minutes)
        return PostgresDatabase(dsn, self.schema, max(1, self.copy_streams))


def apply_environment() -> None:
    """Lets `PIPELINE__<SECTION>__<KEY>` win over every configuration file, and lose to the command line."""
    config = luigi.configuration.get_config()
    families = {name.lower(): name for name in luigi.task_register.Register.task_names()}
    for name, value in os.environ.items():
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and separator:
            # The parser expands % and ${…}; here the value is already what is meant.
            config.set(families.get(section.lower(), section.lower()), key.lower(), value.replace("%", "%%"))
