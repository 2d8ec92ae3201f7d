"""What a dataset is: the typed form of one YAML file, and everything that derives from it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a release file, in both warehouses' types."""

    source_name: str
    postgres_type: str
    bigquery_type: str
    description: str

    @property
    def name(self) -> str:
        """The column's name in the warehouses: the file's name in lower case."""
        return self.source_name.lower()


@dataclass(frozen=True)
class Schedule:
    """When a dataset's new releases are looked for: a cron expression in a time zone."""

    cron: str
    timezone: str


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset as declared in `pipeline/datasets/<name>.yaml`; validated, immutable."""

    name: str
    title: str
    version: int
    table: str
    path: str
    columns: tuple[Column, ...]
    row_key: tuple[str, ...]
    event_time: str | None
    first_month: datetime.date | None
    last_month: datetime.date | None
    schedule: Schedule | None

    @property
    def is_monthly(self) -> bool:
        """Whether the dataset is released as one file a month (its path holds `{month}`)."""
        return "{month}" in self.path

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def source_path(self, month: datetime.date | None) -> str:
        """The file's path below the source's base URL, e.g. `green/green_tripdata_2019-01.csv.gz`."""
        return self.path.replace("{month}", format_month(month)) if month else self.path

    def filename(self, month: datetime.date | None) -> str:
        """The uncompressed file's name, e.g. `green_tripdata_2019-01.csv`: the value of the column `filename`."""
        return self.source_path(month).rsplit("/", 1)[-1].removesuffix(".gz")

    def partition_key(self, month: datetime.date | None) -> str:
        """The ledger's name for the file, e.g. `green/2019-01`, or `zones` for a dataset of a single file."""
        return f"{self.name}/{format_month(month)}" if month else self.name

    def partition_table(self, month: datetime.date) -> str:
        """The table that holds one month, e.g. `green_tripdata_2019_01`."""
        return f"{self.table}_{month:%Y_%m}"

    def published_months(self) -> str:
        """The months that the publisher is known to offer, for messages."""
        first = format_month(self.first_month) if self.first_month else "…"
        return f"{first} to {format_month(self.last_month)}" if self.last_month else f"{first} onwards"


def format_month(month: datetime.date) -> str:
    """The month as files, keys and options name it, e.g. `2019-01`."""
    return f"{month:%Y-%m}"


def parse_month(text: str) -> datetime.date:
    """The first day of a month such as 2019-01.

    :raises ValueError: when the text is no such month.
    """
    try:
        return datetime.datetime.strptime(text, "%Y-%m").date()
    except ValueError:
        raise ValueError(f"'{text}' is not a month such as 2019-01") from None
