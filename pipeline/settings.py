"""The sections of `luigi.cfg`; each key can also be set by `PIPELINE__<SECTION>__<KEY>` or `--<section>-<key>`.

Reading a setting has no side effects: it starts no server and creates no client.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import luigi
from luigi.retcodes import retcode

from pipeline.datasets import Dataset, Release
from pipeline.datasets.month_range import Months
from pipeline.datasets.spec import MIRROR, TLC
from pipeline.errors import PipelineError
from pipeline.extract.download import HttpOptions
from pipeline.extract.locations import RELEASE_MIRROR, Location, locations, possible_months
from pipeline.files import data_home
from pipeline.parameters import (
    CountParameter,
    FlagParameter,
    HttpUrlParameter,
    NonNegativeFloatParameter,
    ObjectParameter,
    OneOfParameter,
    OptionalMonthParameter,
)


class Section(luigi.Config):
    """A section of the configuration, named differently from its class."""

    def __init_subclass__(cls, section: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__name__ = section  # Luigi uses the class name


def exit_codes() -> retcode:
    """Returns the exit codes of `luigi`: the section `[retcode]`."""
    return retcode()


class SourceSettings(Section, section="source"):
    """The sources of release files."""

    base_url: str = luigi.Parameter(
        default=RELEASE_MIRROR,
        significant=False,
        description="the CSV mirror, or a mirror of it or of TLC's site: an http(s) or file URL, or a folder",
    )
    tlc_base_url: str = luigi.Parameter(
        default="",
        significant=False,
        description="a mirror of TLC's Parquet files; empty: TLC's own site, or base_url if that is set",
    )
    prefer: str = OneOfParameter(
        choices=["", MIRROR, TLC], default="", description="the source to use (default: depends on the month)"
    )
    any_month: bool = FlagParameter(
        default=False,
        description="accept files even if most of their rows are of another month",
    )
    ignore_unknown_columns: bool = FlagParameter(
        default=False,
        description="leave out columns that the dataset does not declare, even if they have values",
    )
    connect_timeout: float = NonNegativeFloatParameter(default=10, description="seconds to wait for a connection")
    read_timeout: float = NonNegativeFloatParameter(default=60, description="seconds to wait for the next bytes")
    retries: int = CountParameter(default=4, description="how many consecutive retries without progress")
    longest_wait: float = NonNegativeFloatParameter(
        default=60, description="maximum number of seconds between two tries"
    )
    minimum_rate: float = NonNegativeFloatParameter(
        default=2000, description="minimum bytes per second, over read_timeout, of a connection; 0: no limit"
    )
    largest_file_mb: float = NonNegativeFloatParameter(default=4000, description="maximum size of a file in megabytes")
    longest_download: float = NonNegativeFloatParameter(
        default=6 * 3600, description="maximum number of seconds of a download; the next run resumes it"
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

    def possible_months(self, dataset: Dataset, months: Months) -> Months:
        """Returns those of the months that the sources may have.

        :raises PipelineError: if there are none.
        """
        return possible_months(dataset, months, self.base_url, self.tlc_base_url)

    def locations(self, release: Release, source: str = "") -> tuple[Location, ...]:
        """Returns the locations of a release in the order to try them; `source` is the task's parameter."""
        offered = {each.name for each in release.dataset.sources}
        return locations(
            release, self.base_url, self.tlc_base_url, source or (self.prefer if self.prefer in offered else "")
        )


class StorageSettings(Section, section="storage"):
    """The locations of files."""

    root: str = luigi.Parameter(
        default="data",
        description="the folder for raw files, the embedded database, reports, logs and metrics; a relative one is"
        " below the checkout, or the folder of the configuration file that names it",
    )
    keep_raw: bool = FlagParameter(
        default=True,
        description="keep a raw file after it has been loaded",
    )

    def folder(self, name: str) -> Path:
        """Returns the folder below `root` for one part of the pipeline, in any current directory.

        :raises PipelineError: if the root is not a folder.
        """
        root = data_home() / Path(self.root).expanduser()
        if root.exists() and not root.is_dir():
            raise PipelineError(f"[storage] root: {root} is not a folder")
        return root / name

    def raw_folder(self) -> Path:
        """Returns the folder of release files."""
        return self.folder("raw")

    def logs_folder(self) -> Path:
        """Returns the folder of the logs of runs."""
        return self.folder("logs")

    def dbt_folder(self) -> Path:
        """Returns the folder of dbt's artifacts, logs and parse cache."""
        return self.folder("dbt").resolve()

    def report_page(self, warehouse: str) -> Path:
        """Returns the page of the report on a warehouse."""
        return self.folder("reports") / warehouse / "index.html"

    def postgres_folder(self) -> Path:
        """Returns the data folder of the embedded server."""
        return self.folder("postgres")

    def alert_state(self) -> Path:
        """Returns the file of the alerts' state."""
        return self.folder("alerts") / "state.json"

    def metrics_file(self) -> Path:
        """Returns the metrics file for node_exporter's textfile collector."""
        return self.folder("metrics") / "pipeline.prom"


class PostgresSettings(Section, section="postgres"):
    """The PostgreSQL database to load."""

    dsn: str = luigi.Parameter(
        default="",
        significant=False,
        description="a libpq URL or key=value string; empty: the embedded PostgreSQL below [storage] root",
    )
    schema: str = luigi.Parameter(default="public", description="the schema of the tables; created if missing")
    copy_streams: int = CountParameter(least=1, default=2, description="how many COPY streams a load uses")
    connect_timeout: int = CountParameter(least=1, default=15, description="seconds to wait for a connection")
    lock_timeout: float = NonNegativeFloatParameter(
        default=600, description="seconds to wait for a lock that another session holds; 0: no limit"
    )
    answer_timeout: float = NonNegativeFloatParameter(
        default=120,
        description="seconds to wait for a server, or one of its processes, that does not answer; 0: no limit",
    )
    idle_minutes: float = NonNegativeFloatParameter(
        default=15, description="minutes after its last use until the embedded server is stopped; 0: never"
    )


class GcpSettings(Section, section="gcp"):
    """The Google Cloud project to use; without credentials."""

    project: str = luigi.Parameter(default="", description="the Google Cloud project that is billed")
    location: str = luigi.Parameter(
        default="US",
        description="the permanent location of bucket and datasets: US, EU or a region such as europe-west2",
    )
    bucket: str = luigi.Parameter(default="", description="the Cloud Storage bucket; its name must be globally unique")
    dataset: str = luigi.Parameter(default="tlc", description="the BigQuery dataset")
    maximum_bytes_billed: int = CountParameter(
        default=20 * 10**9, description="maximum bytes billed per query; 0: no limit"
    )


class DbtSettings(Section, section="dbt"):
    """How and where the dbt models are built."""

    schema: str = luigi.Parameter(
        default="",
        description="the schema or dataset for the models; empty: that of the loaded tables",
    )
    threads: int = CountParameter(least=1, default=4, description="how many models and tests to run at once")
    known_vendors_only: bool = FlagParameter(
        default=False,
        description="leave trips without a vendor out of the marts",
    )

    def variables(self) -> dict[str, object]:
        """Returns the values of the dbt project's variables."""
        return {"known_vendors_only": self.known_vendors_only}


class ScheduleSettings(Section, section="schedule"):
    """The catch-ups that the schedule runs."""

    task: str = luigi.Parameter(default="LoadTripdata", description="the task to run for each month of a dataset")
    parameters: dict[str, Any] = ObjectParameter(
        default={}, example={"warehouse": "postgres"}, description="more parameters of that task, as JSON"
    )
    start: datetime.date | None = OptionalMonthParameter(
        description="the first month of catch-ups, such as 2019-01; empty: that of the dataset's schedule"
    )
    workers: int = CountParameter(least=1, default=1, description="how many months to process in parallel")
    reload: str = OneOfParameter(
        choices=["never", "always"],
        default="never",
        description="whether a catch-up reloads a month that was published again, besides logging a warning",
    )
    retry_minutes: float = NonNegativeFloatParameter(
        default=60, description="minutes until a failed catch-up is retried; 0: at the next scheduled time"
    )

    def folder(self) -> Path:
        """Returns the folder of the records of catch-ups."""
        return StorageSettings().folder("schedule")


class UiSettings(Section, section="ui"):
    """The central scheduler that `pipeline ui` starts."""

    address: str = luigi.Parameter(
        default="127.0.0.1", description="the address to listen on; Luigi has no authentication"
    )
    port: int = CountParameter(least=1, default=8082, description="the port to listen on")
    expose: bool = FlagParameter(
        default=False,
        description="allow an address that other machines can reach",
    )
    hosts: str = luigi.Parameter(default="", description="additional host names of this server, separated by commas")
    history: str = luigi.Parameter(
        default="",
        significant=False,
        description="SQLAlchemy URL of the task history; empty: an SQLite file below [storage] root",
    )

    def host_names(self) -> list[str]:
        """Returns the names in `hosts`."""
        return [name.strip() for name in self.hosts.split(",") if name.strip()]

    def folder(self) -> Path:
        """Returns the folder of the scheduler's state and, by default, of the history."""
        return StorageSettings().folder("ui")


class LogSettings(Section, section="logs"):
    """The logs of runs."""

    format: str = OneOfParameter(
        default="plain",
        choices=("plain", "json", "auto"),
        description="the format of standard error (auto: json if it is not a terminal)",
    )
    keep_days: int = CountParameter(default=30, description="days after which a run's log is removed")

    def as_json(self) -> bool:
        """Returns whether this process writes JSON to standard error."""
        return self.format == "json" or (self.format == "auto" and not sys.stderr.isatty())


class AlertSettings(Section, section="alerts"):
    """The channels and the content of alerts, in addition to Luigi's settings for e-mail such as `[email] receiver`."""

    webhook_url: str = HttpUrlParameter(
        default="", significant=False, description="the URL to POST alerts to, in Slack's JSON; empty: none"
    )
    tell_success: bool = FlagParameter(default=False, description="also send alerts for successful tasks")
    link: str = luigi.Parameter(
        default="", description="the link in alerts; empty: the task's page in the central scheduler"
    )
    gather_minutes: float = NonNegativeFloatParameter(
        default=5, description="minutes after which a run sends alerts before it ends, and retries failed deliveries"
    )
    burst_hours: float = NonNegativeFloatParameter(
        default=48, description="hours without a failure after which the next failure causes a new alert"
    )
