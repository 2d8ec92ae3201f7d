"""Every section of `luigi.cfg`, each key also set by `PIPELINE__<SECTION>__<KEY>` or `--<section>-<key>`.

Asking for a setting reads it and does nothing else: no server starts, no client is made.
"""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path
from typing import Any

import luigi
import luigi.configuration

from pipeline.datasets import Release
from pipeline.datasets.spec import MIRROR, TLC
from pipeline.errors import PipelineError
from pipeline.extract.download import HttpOptions
from pipeline.extract.extraction import VerificationOptions
from pipeline.extract.locations import RELEASE_MIRROR, TLC_SITE, Location, locations
from pipeline.files import data_home
from pipeline.parameters import CountParameter, DurationParameter

_VALUE_OF = re.compile(r"value of '(\w+)'")  # as Luigi names the parameter
_INTERPOLATION = "write %% for %, and name only variables that are set in ${...}"


class Section(luigi.Config):
    """A section whose mistakes are explained without showing a value, as that could hold a password."""

    def __init_subclass__(cls, section: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__name__ = section  # by which Luigi knows it

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


class SourceSettings(Section, section="source"):
    """Where release files come from."""

    base_url: str = luigi.Parameter(
        default=RELEASE_MIRROR,
        significant=False,
        description="the CSV mirror, or a mirror of it or of TLC's site: an http(s) or file URL, or a folder",
    )
    tlc_base_url: str = luigi.Parameter(
        default="",
        significant=False,
        description="TLC's Parquet files, the same; empty: TLC's own site, or base_url where that is set",
    )
    prefer: str = luigi.ChoiceParameter(
        choices=["", MIRROR, TLC], default="", description="the source to take, mirror or tlc; empty: by the month"
    )
    any_month: bool = luigi.BoolParameter(
        default=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="take files although most of their rows are of another month",
    )
    ignore_unknown_columns: bool = luigi.BoolParameter(
        default=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="leave out columns that the dataset does not declare, whatever is in them",
    )
    connect_timeout: float = DurationParameter(default=10, description="seconds to wait for a connection")
    read_timeout: float = DurationParameter(default=60, description="seconds to wait for the next bytes")
    retries: int = CountParameter(default=4, description="how often to try again without any progress")
    longest_wait: float = DurationParameter(default=60, description="seconds to wait between two tries, at most")
    minimum_rate: float = DurationParameter(
        default=2000, description="bytes a second below which, over read_timeout, a connection is given up; 0: never"
    )
    largest_file_mb: float = DurationParameter(default=4000, description="megabytes that no file may have more of")
    longest_download: float = DurationParameter(
        default=6 * 3600, description="seconds after which a download is given up; the next run goes on with it"
    )

    def http_options(self) -> HttpOptions:
        return HttpOptions(
            self.connect_timeout,
            self.read_timeout,
            self.retries,
            self.longest_wait,
            self.minimum_rate,
            self.largest_file_mb * 1e6,
            self.longest_download,
        )

    def verification(self) -> VerificationOptions:
        return VerificationOptions(self.any_month, self.ignore_unknown_columns)

    def are_publishers(self) -> bool:
        """Whether only the publishers' own sites are asked; of what another source has, nothing is known."""
        return self.base_url == RELEASE_MIRROR and self.tlc_base_url in ("", TLC_SITE)

    def locations(self, release: Release, source: str = "") -> tuple[Location, ...]:
        """Where to ask for a release, in order; `source` is what the task was asked to take."""
        offered = {each.name for each in release.dataset.sources}
        return locations(
            release, self.base_url, self.tlc_base_url, source or (self.prefer if self.prefer in offered else "")
        )


class StorageSettings(Section, section="storage"):
    """Where files are kept."""

    root: str = luigi.Parameter(
        default="data",
        description="the folder for raw files, the embedded database, reports, logs and metrics; a relative one is"
        " below the checkout, or the folder of the configuration file that names it",
    )
    keep_raw: bool = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="keep a raw file after it has been loaded",
    )

    def folder(self, name: str) -> Path:
        """Where one part of the pipeline keeps what is its own, from whatever folder a command runs in."""
        return data_home() / Path(self.root).expanduser() / name

    def raw_folder(self) -> Path:
        """Where release files are put."""
        return self.folder("raw")

    def reconciled_file(self, key: str) -> Path:
        """Where the proof is kept that both warehouses hold the same rows of a release."""
        return self.folder("reconciled") / f"{key}.json"

    def dbt_folder(self) -> Path:
        """Where dbt keeps its runs, logs and what it remembers of the project."""
        return self.folder("dbt").resolve()

    def report_folder(self, warehouse: str) -> Path:
        """Where the report on a warehouse is put."""
        return self.folder("reports") / warehouse

    def postgres_folder(self) -> Path:
        """Where the embedded server keeps its data."""
        return self.folder("postgres")

    def alert_state(self) -> Path:
        """Where it is kept which alerts are pending."""
        return self.folder("alerts") / "state.json"

    def metrics_file(self) -> Path:
        """What node_exporter's textfile collector is to read."""
        return self.folder("metrics") / "pipeline.prom"


class PostgresSettings(Section, section="postgres"):
    """Which PostgreSQL to load."""

    dsn: str = luigi.Parameter(
        default="",
        significant=False,
        description="a libpq URL or key=value string; empty: the embedded PostgreSQL below [storage] root",
    )
    schema: str = luigi.Parameter(default="public", description="the schema to work in; created if missing")
    copy_streams: int = CountParameter(least=1, default=2, description="how many COPY streams a load uses")
    connect_timeout: int = CountParameter(least=1, default=15, description="seconds to wait for a connection")
    lock_timeout: float = DurationParameter(
        default=600, description="seconds to wait for a lock that another session holds; 0: without end"
    )
    answer_timeout: float = DurationParameter(
        default=120,
        description="seconds after which a server, or a process of it, that does not answer is given up; 0: never",
    )
    idle_minutes: float = DurationParameter(
        default=15, description="minutes after its last use when the embedded server stops itself; 0: never"
    )


class GcpSettings(Section, section="gcp"):
    """Where in Google Cloud to work; credentials never come from here."""

    project: str = luigi.Parameter(default="", description="the Google Cloud project that pays")
    location: str = luigi.Parameter(
        default="US", description="where bucket and datasets are, for good: US, EU or a region such as europe-west2"
    )
    bucket: str = luigi.Parameter(default="", description="the Cloud Storage bucket; its name must be the world's only")
    dataset: str = luigi.Parameter(default="tlc", description="the BigQuery dataset")
    maximum_bytes_billed: int = CountParameter(
        default=20 * 10**9, description="bytes a query may bill before BigQuery refuses to run it; 0: any number"
    )


class DbtSettings(Section, section="dbt"):
    """Where the dbt models go, and how they are built."""

    schema: str = luigi.Parameter(
        default="",
        description="the schema or dataset for the models; empty: beside the tables they are made from",
    )
    threads: int = CountParameter(least=1, default=4, description="how many models and tests to run at once")
    known_vendors_only: bool = luigi.BoolParameter(
        default=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="leave the trips whose vendor is blank out of the marts",
    )

    def variables(self) -> dict[str, object]:
        """The values of the dbt project's variables."""
        return {"known_vendors_only": self.known_vendors_only}


class ScheduleSettings(Section, section="schedule"):
    """What a firing of the schedule runs."""

    task: str = luigi.Parameter(default="LoadTripdata", description="the task that each month of a dataset is for")
    parameters: dict[str, Any] = luigi.DictParameter(default={}, description="more parameters of that task, as JSON")
    start: str = luigi.Parameter(
        default="", description="the first month to catch up with, such as 2019-01; empty: what its schedule says"
    )
    workers: int = CountParameter(least=1, default=1, description="how many months to work on side by side")
    reload: str = luigi.ChoiceParameter(
        choices=["never", "always"],
        default="never",
        description="whether a catch-up loads a month anew that was published again; of either it logs a warning",
    )
    retry_minutes: float = DurationParameter(
        default=60, description="minutes until a failed catch-up is tried again; 0: at the next firing"
    )

    def folder(self) -> Path:
        """Where each dataset's last catch-up is noted."""
        return StorageSettings().folder("schedule")


class UiSettings(Section, section="ui"):
    """The central scheduler that `pipeline ui` starts."""

    address: str = luigi.Parameter(
        default="127.0.0.1", description="the address to listen on; Luigi asks nobody for a password"
    )
    port: int = luigi.IntParameter(default=8082, description="the port to listen on")
    expose: bool = luigi.BoolParameter(
        default=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="allow an address that other machines can reach",
    )
    hosts: str = luigi.Parameter(
        default="", description="more names by which browsers and workers call this server, separated by commas"
    )
    history: str = luigi.Parameter(
        default="",
        significant=False,
        description="SQLAlchemy URL of the task history; empty: an SQLite file below [storage] root",
    )

    def host_names(self) -> list[str]:
        """The names in `hosts`."""
        return [name.strip() for name in self.hosts.split(",") if name.strip()]

    def folder(self) -> Path:
        """Where the state is kept between two runs, and the history unless it is elsewhere."""
        return StorageSettings().folder("ui")


class LogSettings(Section, section="logs"):
    """What a run writes about itself."""

    format: str = luigi.ChoiceParameter(
        default="plain",
        choices=("plain", "json", "auto"),
        description="what standard error gets: plain, json, or auto: json where it is not a terminal",
    )
    keep_days: int = CountParameter(default=30, description="days after which a run's log is removed")

    def as_json(self) -> bool:
        """Whether standard error gets JSON in this process."""
        return self.format == "json" or (self.format == "auto" and not sys.stderr.isatty())


class AlertSettings(Section, section="alerts"):
    """Who is alerted of what; `[email] receiver` and Luigi's other settings for e-mail come on top."""

    webhook_url: str = luigi.Parameter(
        default="", significant=False, description="where to POST alerts, in Slack's JSON; empty: nowhere"
    )
    tell_success: bool = luigi.BoolParameter(
        default=False, parsing=luigi.BoolParameter.EXPLICIT_PARSING, description="alert of tasks that succeed, too"
    )
    link: str = luigi.Parameter(
        default="", description="a page that alerts point to; empty: the task's page in the central scheduler"
    )
    gather_minutes: float = DurationParameter(
        default=5, description="minutes after which a run sends its alerts before it ends, and tries again to deliver"
    )
    burst_hours: float = DurationParameter(
        default=48, description="hours without a failure after which the next one is alerted of as a new one"
    )
