"""The section on data quality: row counts of every file, and unlikely values in the loaded rows."""

from __future__ import annotations

from typing import Any

from pipeline.report.formatting import NONE, month_abbreviation, percent
from pipeline.report.sections import LoadedFile, ReportData, Section, Table

_BECAME = (
    "Every row of a file is in one of the columns. Duplicate and malformed rows are not loaded but kept, whole, in"
    " load_quarantine. Left out are the loaded trips that the marts exclude, as they begin or end in an unknown zone or"
    " at no readable time; excluded_trips has each with its reason."
)
_UNLIKELY = (
    "Such rows are counted like all others. Other month: the pick-up is dated outside the file's month, by a clock gone"
    " wrong or around midnight. Negative fare: a charge that was taken back. No amount: no fare or total that can be"
    " read. No time: the trip ends when it begins, or before."
)
_CHECKS = {
    "Vendor unknown": "unknown_vendors",
    "Other month": "outside_month",
    "Negative fare": "negative_fares",
    "No amount": "unknown_amounts",
    "No distance": "zero_distances",
    "No time": "no_durations",
}
_OF_FARES = {"unknown_vendors", "negative_fares", "unknown_amounts"}


def section(data: ReportData) -> Section:
    """Returns two tables with a row per file."""
    files = [(file, data.quality[file.filename]) for file in data.files if file.filename in data.quality]
    if not files:
        return Section("The files and their rows")
    return Section("The files and their rows", tables=[(_BECAME, _became(files)), (_UNLIKELY, _unlikely(files))])


def _became(files: list[tuple[LoadedFile, dict[str, Any]]]) -> Table:
    counts = [
        [file.read, file.duplicate, file.rejected, int(row["trips"] - row["reported"]), int(row["reported"])]
        for file, row in files
    ]
    rows = [[f"{count:,}" for count in row] for row in _with_totals(counts)]
    head = ["File", "Rows", "Duplicate", "Malformed", "Left out", "Reported"]
    return Table("What became of the rows", head, _named(files, rows))


def _unlikely(files: list[tuple[LoadedFile, dict[str, Any]]]) -> Table:
    counts = [[int(row["trips"]), *(int(row[name]) for name in _CHECKS.values())] for _, row in files]
    fares = [bool(row["has_fares"]) for _, row in files]
    rows = [
        [f"{loaded:,}"]
        + [
            f"{count:,} ({percent(count, loaded)})" if count else "0" if has_fares or name not in _OF_FARES else NONE
            for name, count in zip(_CHECKS.values(), unlikely, strict=True)
        ]
        for (loaded, *unlikely), has_fares in zip(_with_totals(counts), [*fares, any(fares)], strict=False)
    ]
    return Table("What is unlikely among the rows loaded", ["File", "Rows loaded", *_CHECKS], _named(files, rows))


def _with_totals(counts: list[list[int]]) -> list[list[int]]:
    return [*counts, [sum(column) for column in zip(*counts, strict=True)]] if len(counts) > 1 else counts


def _named(files: list[tuple[LoadedFile, dict[str, Any]]], rows: list[list[str]]) -> list[list[str]]:
    names = [f"{file.service} {month_abbreviation(file.month)}" for file, _ in files] + ["All"]
    return [[name, *row] for name, row in zip(names, rows, strict=False)]
