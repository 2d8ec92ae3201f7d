"""Settings: the sections of `luigi.cfg`, each also set by `PIPELINE__<SECTION>__<KEY>` or `--<section>-<key>`."""

from __future__ import annotations

import configparser
import logging
import os
import re
from pathlib import Path
from typing import Any

import luigi
import luigi.configuration

from pipeline.errors import PipelineError
from pipeline.extract.download import HttpOptions
from pipeline.warehouses.postgres import PostgresDatabase

logger = logging.getLogger("luigi-interface")

SHIPPED_CONFIGURATION = Path(__file__).parents[1] / "luigi.cfg"
ENVIRONMENT_PREFIX = "PIPELINE__"
_VALUE_OF = re.compile(r"value of '(\w+)'")  # as Luigi names the parameter
_INTERPOLATION = "write %% for %, and name only variables that are set in ${...}"
RELEASE_MIRROR = "https://github.com/DataTalksClub/nyc-tlc-data/releases/download"


class Section(luigi.Config):
    """A section whose mistakes are explained without showing a value, as that could hold a password."""

    @classmethod
    def get_param_values(
        cls, params: list[tuple[str, luigi.Parameter[Any]]], args: Any, kwargs: Any
    ) -> list[tuple[str, Any]]:
        section, known = cls.get_task_family(), [name for name, _ in params]
        config = luigi.configuration.get_config()
        given = set(config.options(section)) - config.defaults().keys() if config.has_section(section) else set()
        if unknown := sorted(key for key in given if key.replace("-", "_") not in known):
            raise PipelineError(f"[{section}] has no setting '{unknown[0]}'; it has: {', '.join(known)}")
        try:
            return list(super().get_param_values(params, args, kwargs))
        except configparser.InterpolationError as error:
            raise PipelineError(f"[{section}] {error.option}: {_INTERPOLATION}") from None
        except ValueError as error:
            if isinstance(error.__cause__, configparser.InterpolationError):
                raise PipelineError(f"[{section}] {error.__cause__.option}: {_INTERPOLATION}") from None
            named = _VALUE_OF.search(str(error))
            raise PipelineError(f"[{section}] {named[1] if named else error}: {error.__cause__}") from error


class source(Section):
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


class storage(Section):
    """Where files are kept."""

    root: str = luigi.Parameter(default="data", description="the folder for raw files and the embedded database")
    keep_raw: bool = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="keep a raw file after it has been loaded",
    )

    def raw_file(self, source_path: str) -> Path:
        return Path(self.root).expanduser() / "raw" / source_path

    def postgres_folder(self) -> Path:
        """Where the embedded server keeps its data."""
        return Path(self.root).expanduser() / "postgres"


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


def apply_shipped_configuration() -> None:
    """Lets the project's own `luigi.cfg` hold wherever commands are run, below any other configuration.

    Without it Luigi exits with 0 when a task fails, and cuts a backfill of old months to nothing.
    """
    config, shipped = luigi.configuration.get_config(), configparser.RawConfigParser()
    if not shipped.read(SHIPPED_CONFIGURATION, encoding="utf-8"):
        raise PipelineError(f"{SHIPPED_CONFIGURATION} is missing: run from a checkout, installed with pip install -e .")
    for section in shipped.sections():
        for key, value in shipped.items(section):
            if not config.has_option(section, key):
                config.set(section, key, value)


def apply_environment() -> None:
    """Lets `PIPELINE__<SECTION>__<KEY>` win over every configuration file, and lose to the command line."""
    config = luigi.configuration.get_config()
    families = {name.lower(): name for name in luigi.task_register.Register.task_names()}
    for name in os.environ:
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not name.startswith(ENVIRONMENT_PREFIX) or not separator:
            continue
        if section.lower() in families:
            # By reference: the parser would expand a % or ${ in the value, and show it where it cannot.
            config.set(families[section.lower()], key.lower(), f"${{{name}}}")
        else:
            logger.warning("%s is ignored: there is no section and no task '%s'", name, section.lower())
