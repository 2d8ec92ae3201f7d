"""What a dataset is: the typed form of one YAML file; and a release of it, which is one file."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import PipelineError

# The tables that the pipeline keeps beside those of the datasets, in every warehouse.
LEDGER = "load_ledger"
QUARANTINE = "load_quarantine"

_MONTH = re.compile(r"((?:19|20|21)[0-9]{2})-(0[1-9]|1[0-2])")

MIRROR, TLC = "mirror", "tlc"


@dataclass(frozen=True)
class Column:
    """One column of a release file, in both warehouses' types.

    `since` and `until` are the first and the last month whose files have it, None where that is open. `sources` names
    the sources whose files have it; empty: all of them. `aliases` are other names that files give it. `whole` says that
    its values are whole numbers, whatever type a file gives them: `2.0` is `2`, and `2.5` is an error.
    """

    source_name: str
    postgres_type: str
    bigquery_type: str
    description: str
    since: datetime.date | None = None
    until: datetime.date | None = None
    aliases: tuple[str, ...] = ()
    whole: bool = False
    sources: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The column's name in the warehouses: the file's name in lower case."""
        return self.source_name.lower()

    def is_in(self, month: datetime.date | None, source: Source | None = None) -> bool:
        """Whether a month's file must have it: the file of that source, or of any."""
        if source and self.sources and source.name not in self.sources:
            return False
        if month is None:
            return True
        return (self.since is None or self.since <= month) and (self.until is None or month <= self.until)


@dataclass(frozen=True)
class Source:
    """A place that offers a dataset's files, all of one format: `csv` or `parquet`.

    `path` is below the base URL of the source's name, with `{month}` in it. `before` says of months before the first
    why there is nothing of use.
    """

    name: str
    format: str
    path: str
    first_month: datetime.date | None = None
    last_month: datetime.date | None = None
    before: str = ""

    def has(self, month: datetime.date | None) -> bool:
        """Whether the source is known to offer that month, or will once it is published."""
        if month is None:
            return True
        after = self.first_month is None or self.first_month <= month
        return after and (self.last_month is None or month <= self.last_month)


@dataclass(frozen=True)
class Schedule:
    """When a dataset's new releases are looked for: a cron expression in a time zone, and from which month on."""

    cron: str
    timezone: str
    start: datetime.date | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset as declared in `pipeline/datasets/<name>.yaml`; validated, immutable.

    `key_blanks` maps a column of the row key to one whose NULL makes it count as blank in the key, and only there.
    `lines_in_quotes`: whether quotes in a CSV file may hold line ends. `month_share`: the least share of a file's rows
    that must lie in its month; 0 where any will do.
    """

    name: str
    title: str
    version: int
    table: str
    columns: tuple[Column, ...]
    row_key: tuple[str, ...]
    event_time: str | None
    sources: tuple[Source, ...]
    schedule: Schedule | None = None
    key_blanks: Mapping[str, str] = field(default_factory=dict)
    lines_in_quotes: bool = False
    month_share: float = 0.5

    def __hash__(self) -> int:
        return hash((self.name, self.version, self.columns))

    @property
    def is_monthly(self) -> bool:
        """Whether the dataset is released as one file a month (its paths hold `{month}`)."""
        return "{month}" in self.sources[0].path

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def first_month(self) -> datetime.date | None:
        """The first month that any of the sources has."""
        firsts = [source.first_month for source in self.sources]
        return min((month for month in firsts if month), default=None) if all(firsts) else None

    @property
    def last_month(self) -> datetime.date | None:
        """The last month that any of the sources will ever have, None where there is no end."""
        lasts = [source.last_month for source in self.sources]
        return max((month for month in lasts if month), default=None) if all(lasts) else None

    def columns_of(self, month: datetime.date | None, source: Source | None = None) -> tuple[Column, ...]:
        """The columns that a month's file must have: the file of that source, or of any."""
        return tuple(column for column in self.columns if column.is_in(month, source))

    def published_months(self) -> str:
        """The months that the publisher is known to offer, for messages."""
        first = format_month(self.first_month) if self.first_month else "…"
        return f"{first} to {format_month(self.last_month)}" if self.last_month else f"{first} onwards"


@dataclass(frozen=True)
class Release:
    """One file of a dataset: that of a month, or the only one of a dataset that has no months.

    It is one release whichever source and format it comes in.

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
    def filename(self) -> str:
        """The value of the column `filename`, e.g. `green_tripdata_2019-01.csv`, whatever the format was."""
        name = self.path_in(self.dataset.sources[0]).rsplit("/", 1)[-1].removesuffix(".gz")
        return name.removesuffix(".csv").removesuffix(".parquet") + ".csv"

    @property
    def table(self) -> str:
        """The table that its rows go into, e.g. `green_tripdata`."""
        return self.dataset.table

    def sources(self) -> tuple[Source, ...]:
        """The dataset's sources: those that have the month before the others, each in the order of the spec."""
        return tuple(sorted(self.dataset.sources, key=lambda source: not source.has(self.month)))

    def source_named(self, name: str | None = None) -> Source:
        """The source of that name; by default the first that has the month.

        :raises PipelineError: when the dataset has no source of that name.
        """
        for source in self.sources():
            if not name or source.name == name:
                return source
        known = ", ".join(source.name for source in self.dataset.sources)
        raise PipelineError(f"{self.dataset.name} has no source called '{name}'; it has: {known}")

    @property
    def source_path(self) -> str:
        """The file's path below the base URL of the release's first source."""
        return self.path_in(self.source_named())

    def path_in(self, source: Source) -> str:
        """The file's path below the source's base URL, e.g. `green/green_tripdata_2019-01.csv.gz`."""
        return source.path.replace("{month}", format_month(self.month)) if self.month else source.path

    def raw_path(self, source: Source) -> str:
        """Where the file is kept below the folder of raw files: as at the source, below the dataset's name at least."""
        path = self.path_in(source)
        return path if "/" in path else f"{self.dataset.name}/{path}"

    def __str__(self) -> str:
        return f"{self.dataset.name} {format_month(self.month)}" if self.month else self.dataset.name


def format_month(month: datetime.date) -> str:
    """The month as files, keys and options name it, e.g. `2019-01`."""
    return f"{month:%Y-%m}"


def parse_month(text: str) -> datetime.date:
    """The first day of a month such as 2019-01.

    :raises ValueError: when the text is no such month, as 2019-1 is not, nor one of no year that will be published.
    """
    found = _MONTH.fullmatch(text)
    if not found:
        raise ValueError(f"'{text}' is not a month such as 2019-01")
    return datetime.date(int(found[1]), int(found[2]), 1)
