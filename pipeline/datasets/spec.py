"""The classes of a dataset, as declared in its YAML file, and of a release, which is one file of a dataset."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import PipelineError

# The pipeline's own tables in every warehouse.
LEDGER = "load_ledger"
QUARANTINE = "load_quarantine"
KEPT_IN = "its id is already there from "  # and a file: the detail of a row that another file has, too

SPECS = "pipeline/datasets"  # the folder of the files that declare datasets, as messages name it
ZONES = "zones"  # the only dataset that is one file and has tasks of its own

# A column's name in a spec, and the names that every table has besides, in lower case.
COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
RESERVED_COLUMNS = frozenset({"unique_row_id", "filename"})

_ROW_ID = "MD5 of "
_MONTH = re.compile(r"((?:19|20|21)[0-9]{2})-(0[1-9]|1[0-2])")

MIRROR, TLC = "mirror", "tlc"


@dataclass(frozen=True)
class Column:
    """One column of a release file, with its types in both warehouses.

    `since` and `until` are the first and the last month whose files have it, None if unlimited. `sources` are the names
    of the sources whose files have it; empty means all. `aliases` are other names for it in files. `whole` means that
    its values are whole numbers, whatever their type in the file: `2.0` is read as `2`, and `2.5` is an error.
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
        """The column's name in the warehouses: its name in the file in lower case."""
        return self.source_name.lower()

    @property
    def is_amount(self) -> bool:
        """Whether the column has decimal places: the warehouses do not write such numbers as the same text."""
        return self.postgres_type in ("double precision", "numeric")

    def is_required_in(self, month: datetime.date | None, source: Source) -> bool:
        """Returns whether the file of a month must have the column at a source."""
        if self.sources and source.name not in self.sources:
            return False
        return month is None or _is_within(month, self.since, self.until)


@dataclass(frozen=True)
class Source:
    """A site that offers a dataset's files in one format: `csv` or `parquet`.

    `path` is relative to the base URL of the source and contains `{month}`. `before` says why months before the first
    one are not loaded.
    """

    name: str
    format: str
    path: str
    first_month: datetime.date | None = None
    last_month: datetime.date | None = None
    before: str = ""

    def has(self, month: datetime.date | None) -> bool:
        """Returns whether the source offers that month, or will when it is published."""
        return month is None or _is_within(month, self.first_month, self.last_month)


@dataclass(frozen=True)
class Schedule:
    """When to check for new releases of a dataset: a cron expression in a time zone, and the first month."""

    cron: str
    timezone: str
    start: datetime.date | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset as declared in `pipeline/datasets/<name>.yaml`; validated and immutable.

    `key_blanks` maps a column of the row key to another column; if that is NULL, the former counts as NULL in the key.
    `lines_in_quotes` is true if quoted values in CSV files may contain line breaks. `month_share` is the minimum share
    of a file's rows that must be in its month.
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
    key_blanks: Mapping[str, str] = field(default_factory=dict, hash=False)  # a mapping has no hash
    lines_in_quotes: bool = False
    month_share: float = 0.5

    @property
    def spec_file(self) -> str:
        """The file that declares it, as messages name it, such as `pipeline/datasets/green.yaml`."""
        return f"{SPECS}/{self.name}.yaml"

    @property
    def table_comment(self) -> str:
        """The comment of its table in every warehouse, with the version of the spec that created the table."""
        return f"{self.title} ({self.spec_file}, version {self.version})"

    @property
    def row_id_comment(self) -> str:
        """The comment of the column `unique_row_id` in every warehouse."""
        return f"{_ROW_ID}{', '.join(self.row_key)}."

    def check_row_key(self, table: str, comment: str | None) -> None:
        """Checks the ids in a table by the comment of its column `unique_row_id`.

        :raises PipelineError: if they are of another row key, so that a row that is loaded again would get another id.
        """
        if comment and comment.startswith(_ROW_ID) and comment != self.row_id_comment:
            raise PipelineError(
                f"{table}: unique_row_id is the {comment.rstrip('.')}, and the row_key in {self.spec_file} is"
                f" {', '.join(self.row_key)}; forget the dataset's months (`pipeline forget {self.name} …`), drop the"
                " table and load them again"
            )

    @property
    def is_monthly(self) -> bool:
        """Whether the dataset has one file per month (its paths contain `{month}`)."""
        return "{month}" in self.sources[0].path

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def first_month(self) -> datetime.date | None:
        """The first month that any of the sources has, or None if a source has no first month."""
        firsts = [source.first_month for source in self.sources]
        return min((month for month in firsts if month), default=None) if all(firsts) else None

    @property
    def last_month(self) -> datetime.date | None:
        """The last month that any of the sources will ever have, or None if there is no last month."""
        lasts = [source.last_month for source in self.sources]
        return max((month for month in lasts if month), default=None) if all(lasts) else None

    def columns_of(self, month: datetime.date | None, source: Source) -> tuple[Column, ...]:
        """Returns the columns that the file of a month must have at a source."""
        return tuple(column for column in self.columns if column.is_required_in(month, source))

    def may_have(self, month: datetime.date) -> bool:
        """Returns whether a publisher may have the month: it is not before the first one, and has begun."""
        return _is_within(month, self.first_month, datetime.datetime.now(datetime.UTC).date())

    def published_months(self) -> str:
        """Returns the months that the publisher offers, as text for messages."""
        first = format_month(self.first_month) if self.first_month else "…"
        return f"{first} to {format_month(self.last_month)}" if self.last_month else f"{first} onwards"


@dataclass(frozen=True)
class Release:
    """One file of a dataset: the file of a month, or the only file of a dataset without months.

    The files of different sources and formats for the same month are the same release.

    >>> Release(dataset_named("green"), datetime.date(2019, 1, 1)).key
    'green/2019-01'
    """

    dataset: Dataset
    month: datetime.date | None = None

    @property
    def key(self) -> str:
        """The release's key in the ledger, such as `green/2019-01` or `zones`."""
        return f"{self.dataset.name}/{format_month(self.month)}" if self.month else self.dataset.name

    @property
    def filename(self) -> str:
        """The value of the column `filename`, such as `green_tripdata_2019-01.csv`, for any format of the file."""
        source = self.dataset.sources[0]
        name = self.path_in(source).rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(".csv").removesuffix(".parquet")
        if self.month and "{month}" not in source.path.rsplit("/", 1)[-1]:
            name += f"_{format_month(self.month)}"  # the files of all months have one name, in folders of their own
        return f"{name}.csv"

    @property
    def table(self) -> str:
        """The table that the release is loaded into, such as `green_tripdata`."""
        return self.dataset.table

    def sources(self) -> tuple[Source, ...]:
        """Returns the dataset's sources in the order of the spec, those that have the month first."""
        return tuple(sorted(self.dataset.sources, key=lambda source: not source.has(self.month)))

    def source_named(self, name: str | None = None) -> Source:
        """Returns the source of that name, by default the first one that has the month.

        :raises PipelineError: if the dataset has no source of that name.
        """
        for source in self.sources():
            if not name or source.name == name:
                return source
        known = ", ".join(source.name for source in self.dataset.sources)
        raise PipelineError(f"{self.dataset.name} has no source called '{name}'; it has: {known}")

    def path_in(self, source: Source) -> str:
        """Returns the file's path relative to the source's base URL, such as `green/green_tripdata_2019-01.csv.gz`."""
        return source.path.replace("{month}", format_month(self.month)) if self.month else source.path

    def raw_path(self, source: Source) -> str:
        """Returns the file's path in the folder of raw files: the source's path, in a folder for the dataset."""
        path = self.path_in(source)
        return path if "/" in path else f"{self.dataset.name}/{path}"

    def __str__(self) -> str:
        return f"{self.dataset.name} {format_month(self.month)}" if self.month else self.dataset.name


def format_month(month: datetime.date) -> str:
    """Formats a month as in file names, keys and options, such as `2019-01`."""
    return f"{month:%Y-%m}"


def parse_month(text: str) -> datetime.date:
    """Parses a month such as 2019-01 and returns its first day.

    :raises ValueError: if the text has another format, such as 2019-1, or a year outside 1900 to 2199.
    """
    found = _MONTH.fullmatch(text)
    if not found:
        raise ValueError(f"'{text}' is not a month such as 2019-01")
    return datetime.date(int(found[1]), int(found[2]), 1)


def _is_within(month: datetime.date, first: datetime.date | None, last: datetime.date | None) -> bool:
    """Returns whether the month is between the two, which count as well; None means that there is no limit."""
    return (first is None or first <= month) and (last is None or month <= last)
