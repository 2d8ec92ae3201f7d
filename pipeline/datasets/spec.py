"""What a dataset is: the typed form of one YAML file; and a release of it, which is one file."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

# The tables that the pipeline keeps beside those of the datasets, in every warehouse.
LEDGER = "load_ledger"
QUARANTINE = "load_quarantine"


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
class Dataset:
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

    def published_months(self) -> str:
        """The months that the publisher is known to offer, for messages."""
        first = format_month(self.first_month) if self.first_month else "…"
        return f"{first} to {format_month(self.last_month)}" if self.last_month else f"{first} onwards"


@dataclass(frozen=True)
class Release:
    """One file of a dataset: that of a month, or the only one of a dataset that has no months.

    >>> Release(dataset_named("green"), datetime.date(2019, 1, 1)).key
    'green/2019-01'
    """

    dataset: Dataset
    month: datetime.date | None = None

    @property
    def key(self) -> str:
        """The ledger's name for the release, e.g. `green/2019-01`, or `zones`."""
        return f"{self.dataset.name}/{format_month(self.month)}" if self.month else self.dataset.name

    @property
    def source_path(self) -> str:
        """The file's path below the source's base URL, e.g. `green/green_tripdata_2019-01.csv.gz`."""
        path = self.dataset.path
        return path.replace("{month}", format_month(self.month)) if self.month else path

    @property
    def filename(self) -> str:
        """The uncompressed file's name, e.g. `green_tripdata_2019-01.csv`: the value of the column `filename`."""
        return self.source_path.rsplit("/", 1)[-1].removesuffix(".gz")

    @property
    def table(self) -> str:
        """The table that its rows go into, e.g. `green_tripdata`."""
        return self.dataset.table

    def __str__(self) -> str:
        return f"{self.dataset.name} {format_month(self.month)}" if self.month else self.dataset.name


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
