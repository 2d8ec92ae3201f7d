"""The parts of a section of the report, and the data from which sections are made."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from pipeline.datasets import Release, format_month
from pipeline.errors import counted
from pipeline.files import named_statements
from pipeline.report.formatting import month_abbreviation
from pipeline.report.svg import NARROW, WIDE, Svg
from pipeline.transform import modelled_datasets
from pipeline.warehouses import Rows, Warehouse
from pipeline.warehouses.ledger import LedgerEntry

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

    `draw` returns the drawing for a width in pixels. A map has one drawing for all widths, and above it a form that
    `templates/map.html` makes from `map_form`.
    """

    name: str
    draw: Callable[[int], Svg]
    sentence: str
    tables: Sequence[Table] = ()
    map_form: Mapping[str, Any] | None = None

    def drawings(self) -> list[tuple[str, Markup]]:
        """Returns the drawings for wide and narrow screens, each with its CSS class."""
        if self.map_form:
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
    """A file whose rows are in the marts, with its marker and its row of `file_quality`, empty if it has none."""

    service: str
    month: str
    load: LedgerEntry
    quality: Mapping[str, Any]

    @property
    def loaded_at(self) -> datetime.datetime:
        """When it was loaded, in UTC; the database returns times in the time zone of the session."""
        return (self.load.finished_at or self.load.started_at).astimezone(datetime.UTC)

    @property
    def name(self) -> str:
        return f"{self.service} {month_abbreviation(self.month)}"


@dataclass(frozen=True)
class Month:
    """The trips of a service that are dated in one month. Amounts are None for services without fares."""

    service: str
    month: str
    days: int
    trips: int
    trips_with_distance: int
    trips_with_duration: int
    distance: float
    minutes: float
    revenue: float | None
    fares: float | None
    tips: float | None

    @property
    def is_complete(self) -> bool:
        """Returns whether nearly all days have trips, unlike in samples and in months in progress."""
        year, month = map(int, self.month.split("-"))
        return self.days >= _COMPLETE * calendar.monthrange(year, month)[1]

    @property
    def marked_name(self) -> str:
        """The name, with the number of days that have trips if the month is incomplete."""
        name = f"{self.service} {month_abbreviation(self.month)}"
        if self.is_complete:
            return name
        return f"{name} (incomplete, {counted(self.days, 'day')})"


@dataclass(frozen=True)
class ReportData:
    """The data of the sections: the files in the marts, and access to the marts of a warehouse."""

    warehouse: Warehouse
    files: list[LoadedFile]
    built_at: datetime.datetime | None = None

    def rows(self, statement: str, mart: str) -> Rows:
        """Runs a named query of `sql/report/`. A month is returned as text, such as 2019-01."""
        rows = self.warehouse.select(named_statements("report")[statement], [mart])
        return [
            {**row, "month": f"{int(row['year']):04}-{int(row['month']):02}"} if "year" in row else row for row in rows
        ]

    @cached_property
    def months(self) -> list[Month]:
        """The loaded months by service and month, without the trips that a wrong clock dates in other months."""
        return [month for month in self.all_months if (month.service, month.month) in self._loaded]

    @cached_property
    def misdated(self) -> list[Month]:
        """The months that are not loaded, but in which some trips are dated."""
        return [month for month in self.all_months if (month.service, month.month) not in self._loaded]

    @cached_property
    def all_months(self) -> list[Month]:
        """All months in which trips are dated, by service and month."""
        rows = self.rows("select_months", "trips_by_hour")
        return sorted(map(_month, rows), key=lambda month: (month.service, month.month))

    @cached_property
    def complete(self) -> dict[tuple[str, str], Month]:
        """The complete months by service and month."""
        return {(month.service, month.month): month for month in self.months if month.is_complete}

    @cached_property
    def services(self) -> list[str]:
        """The services with trips in the marts."""
        return sorted({month.service for month in self.all_months})

    @cached_property
    def _loaded(self) -> set[tuple[str, str]]:
        return {(file.service, file.month) for file in self.files}


def read_report_data(warehouse: Warehouse) -> ReportData:
    """Reads the files in the marts, ordered by service and month. The sections query everything else."""
    rows = warehouse.select(named_statements("report")["select_file_quality"], ["file_quality"])
    quality = {row["filename"]: row for row in rows}
    modelled = {dataset.table: dataset for dataset in modelled_datasets() if dataset.is_monthly}
    loads = {
        Release(modelled[entry.target_table], entry.month): entry
        for entry in warehouse.loaded()
        if entry.target_table in modelled
    }
    named = {release.table: quality[release.filename]["service"] for release in loads if release.filename in quality}
    files = [
        LoadedFile(
            service=named.get(release.table, release.dataset.name.capitalize()),
            month=format_month(entry.month),
            load=entry,
            quality=quality.get(release.filename, {}),
        )
        for release, entry in loads.items()
        if entry.month
    ]
    build = warehouse.last_build()
    files.sort(key=lambda file: (file.service, file.month))
    return ReportData(warehouse, files, build.finished_at if build else None)


def _month(row: Mapping[str, Any]) -> Month:
    whole = ("days", "trips", "trips_with_distance", "trips_with_duration")
    figures: dict[str, Any] = {name: int(row[name] or 0) for name in whole}
    figures |= {name: float(row[name] or 0) for name in ("distance", "minutes")}
    for name in ("revenue", "fares", "tips"):
        figures[name] = None if row[name] is None else float(row[name])
    return Month(row["service"], row["month"], **figures)
