"""The parts of a section of the report, and the data from which sections are made."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from pipeline.datasets import Dataset, Release, format_month, parse_month
from pipeline.report.formatting import month_after
from pipeline.report.svg import NARROW, WIDE, Svg
from pipeline.transform.project import modelled_datasets
from pipeline.warehouses import Rows, Warehouse
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.statements import named_statements

_COMPLETE = 0.9  # the minimum share of a month's days with trips


@dataclass(frozen=True)
class Table:
    """A table with cells as text: the first column is the row's header, the others contain numbers."""

    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Chart:
    """A chart with a summary in one sentence and its data as tables.

    `draw` returns the drawing for a width in pixels; if `is_scalable`, one drawing serves all widths. `controls` is
    the markup of a form above the drawing.
    """

    name: str
    draw: Callable[[int], Svg]
    sentence: str
    tables: Sequence[Table]
    controls: str = ""
    is_scalable: bool = False

    def drawings(self) -> list[tuple[str, Markup]]:
        """Returns the drawings for wide and narrow screens, each with its CSS class."""
        if self.is_scalable:
            return [("map", self.draw(WIDE).markup())]
        return [("wide", self.draw(WIDE).markup()), ("narrow", self.draw(NARROW).markup())]


@dataclass(frozen=True)
class Headline:
    """A key figure at the top of the page."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Section:
    """A section with its charts, its tables, and its key figures for the top of the page."""

    title: str
    charts: Sequence[Chart] = ()
    tables: Sequence[tuple[str, Table]] = ()  # each with the text above it
    headlines: Sequence[Headline] = ()


@dataclass(frozen=True)
class LoadedFile:
    """A file whose rows are in the marts: `read = duplicate + rejected + loaded`."""

    filename: str
    service: str
    month: str
    source: str
    read: int
    duplicate: int
    rejected: int
    loaded: int
    loaded_at: datetime.datetime


@dataclass(frozen=True)
class Month:
    """The trips of a service that are dated in one month. Amounts are None for services without fares."""

    service: str
    month: str
    days: int
    trips: int
    revenue: float | None
    fares: float | None
    tips: float | None
    paid_by_card: float | None
    distance: float
    trips_with_distance: int
    minutes: float
    trips_with_duration: int

    @property
    def is_complete(self) -> bool:
        """Returns whether nearly all days have trips, unlike in samples and in months in progress."""
        year, month = map(int, self.month.split("-"))
        return self.days >= _COMPLETE * calendar.monthrange(year, month)[1]


def read_report_data(warehouse: Warehouse) -> ReportData:
    """Reads the files in the marts, ordered by service and month. The sections query everything else."""
    quality = {row["filename"]: row for row in warehouse.select(_statement("select_file_quality"), ["file_quality"])}
    releases = {Release(spec, month_of(entry.partition_key)): entry for spec, entry in _loads(warehouse)}
    named = {release.table: quality[release.filename]["service"] for release in releases if release.filename in quality}
    files = [
        LoadedFile(
            filename=release.filename,
            service=named.get(release.table, release.dataset.name.capitalize()),
            month=format_month(release.month or datetime.date.min),
            source=entry.source_url,
            read=entry.rows_read,
            duplicate=entry.rows_duplicate,
            rejected=entry.rows_rejected,
            loaded=entry.rows_loaded,
            loaded_at=entry.finished_at or entry.started_at,
        )
        for release, entry in releases.items()
    ]
    build = warehouse.last_build()
    files.sort(key=lambda file: (file.service, file.month))
    return ReportData(warehouse, files, quality, build.finished_at if build else None)


def _loads(warehouse: Warehouse) -> Iterator[tuple[Dataset, LedgerEntry]]:
    modelled = {spec.table: spec for spec in modelled_datasets() if spec.is_monthly}
    return ((modelled[entry.target_table], entry) for entry in warehouse.loaded() if entry.target_table in modelled)


def month_of(key: str) -> datetime.date:
    """Returns the month of a ledger key such as green/2019-01."""
    return parse_month(key.rpartition("/")[2])


def _statement(name: str) -> str:
    return named_statements("report")[name]


@dataclass(frozen=True)
class ReportData:
    """The data of the sections: the files in the marts, and access to the marts of a warehouse.

    `quality` contains the rows of `file_quality` by file name.
    """

    warehouse: Warehouse
    files: list[LoadedFile]
    quality: dict[str, dict[str, Any]]
    built_at: datetime.datetime | None = None

    def rows(self, statement: str, mart: str) -> Rows:
        """Runs a named query of `sql/report/`."""
        return self.warehouse.select(_statement(statement), [mart])

    @cached_property
    def months(self) -> list[Month]:
        """The loaded months by service and month, without the trips that a wrong clock dates in other months."""
        loaded = {(file.service, file.month) for file in self.files}
        return [month for month in self._dated if (month.service, month.month) in loaded]

    @cached_property
    def misdated(self) -> list[Month]:
        """The months that are not loaded, but in which some trips are dated."""
        loaded = {(file.service, file.month) for file in self.files}
        return [month for month in self._dated if (month.service, month.month) not in loaded]

    @cached_property
    def complete(self) -> set[tuple[str, str]]:
        """The service and month of every complete month."""
        return {(month.service, month.month) for month in self.months if month.is_complete}

    @cached_property
    def services(self) -> list[str]:
        """The services with trips in the marts."""
        return sorted({month.service for month in self._dated})

    def month(self, service: str, month: str, later: int = 0) -> Month | None:
        """Returns the month of a service that is `later` months later, or None if it is missing or incomplete."""
        wanted = month_after(month, later)
        found = [m for m in self.months if (m.service, m.month) == (service, wanted) and m.is_complete]
        return found[0] if found else None

    @cached_property
    def _dated(self) -> list[Month]:
        rows = self.rows("select_months", "trips_by_hour")
        return sorted((_month(row) for row in rows), key=lambda month: (month.service, month.month))


def _month(row: dict[str, object]) -> Month:
    def amount(name: str) -> float | None:
        return None if row[name] is None else float(str(row[name]))

    def count(name: str) -> int:
        return int(str(row[name] or 0))

    return Month(
        service=str(row["service"]),
        month=f"{count('year'):04}-{count('month'):02}",
        days=count("days"),
        trips=count("trips"),
        revenue=amount("revenue"),
        fares=amount("fares"),
        tips=amount("tips"),
        paid_by_card=amount("paid_by_card"),
        distance=amount("distance") or 0.0,
        trips_with_distance=count("trips_with_distance"),
        minutes=amount("minutes") or 0.0,
        trips_with_duration=count("trips_with_duration"),
    )
