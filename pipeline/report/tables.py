"""The report's tables, as text: what is behind each chart, and what became of each file."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipeline.report.files import FileSummary
from pipeline.report.wording import WEEKDAYS, average, dollars, month_abbreviation, percent


@dataclass(frozen=True)
class Table:
    """Cells as text: the first column says what a row is about, the others hold numbers."""

    title: str
    head: list[str]
    rows: list[list[str]]


def months_table(by_month: pd.DataFrame) -> Table:
    """Trips and revenue of each service and month."""
    rows = [
        [_file_name(service, month), f"{trips:,}", dollars(revenue), dollars(revenue / trips)]
        for service, month, trips, revenue in by_month.itertuples(index=False)
    ]
    return Table("Trips and revenue a month", ["Month", "Trips", "Revenue", "Revenue a trip"], rows)


def ranking_table(title: str, place: str, ranking: pd.DataFrame) -> Table:
    """Pick-ups of each place, in all where there are several services, and by service."""
    columns = ranking if len(ranking.columns) == 1 else ranking.assign(All=ranking.sum(axis="columns"))
    rows = [[str(name), *(f"{trips:,}" for trips in row)] for name, *row in columns.itertuples()]
    return Table(title, [place, *columns.columns], rows)


def week_table(title: str, week: pd.DataFrame) -> Table:
    """Trips of an average hour, a column a weekday."""
    rows = [[f"{hour:02}:00", *map(average, week[hour])] for hour in week.columns]
    return Table(title, ["Hour", *(day[:3] for day in WEEKDAYS)], rows)


def rows_table(files: list[FileSummary]) -> Table:
    """What became of every row of every file."""
    counts = [[file.read, file.duplicate, file.rejected, file.loaded - file.reported, file.reported] for file in files]
    rows = [[f"{count:,}" for count in row] for row in _with_totals(counts)]
    head = ["File", "Rows", "Duplicate", "Malformed", "Left out", "Reported"]
    return Table("What became of the rows", head, _named(files, rows))


def oddities_table(files: list[FileSummary]) -> Table:
    """What is odd among the rows that are loaded."""
    counts = [[file.loaded, file.blank_vendors, file.outside_month, file.negative_fares] for file in files]
    rows = [
        [f"{loaded:,}", *(f"{count:,} ({percent(count, loaded)})" if count else "0" for count in odd)]
        for loaded, *odd in _with_totals(counts)
    ]
    head = ["File", "Rows loaded", "Blank vendor", "Other month", "Negative fare"]
    return Table("What is odd among the rows loaded", head, _named(files, rows))


def _with_totals(counts: list[list[int]]) -> list[list[int]]:
    return [*counts, [sum(column) for column in zip(*counts, strict=True)]] if len(counts) > 1 else counts


def _named(files: list[FileSummary], rows: list[list[str]]) -> list[list[str]]:
    names = [_file_name(file.service, file.month) for file in files] + ["All"] * (len(rows) - len(files))
    return [[name, *row] for name, row in zip(names, rows, strict=True)]


def _file_name(service: str, month: str) -> str:
    return f"{service} {month_abbreviation(month)}"
