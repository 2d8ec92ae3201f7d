"""The sections on the loaded files: their months, what became of their rows, and implausible values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from pipeline.report.formatting import NONE, dollars, listed, month_name, months_between, percent, short, spans
from pipeline.report.sections import Headline, LoadedFile, ReportData, Section, Table

_BECAME = (
    "Every row of a file is counted in one of the columns. load_quarantine keeps the duplicate and malformed rows,"
    " which are not loaded. Trips are left out if they begin or end in an unknown zone, or have no readable pick-up"
    " time{or_vendors}; excluded_trips lists those of taxis, with the reason."
)
_OR_VENDORS = ", or no known vendor (known_vendors_only is set)"
_IMPLAUSIBLE = (
    "Such rows are counted like all others{but_vendors}. Other month: the pick-up is dated outside the file's month,"
    " because the clock was wrong or the trip began around midnight. Negative fare: a refund. No amount: no readable"
    " fare or total. No distance: zero miles. No time: the trip ends when it begins, or earlier."
)
_BUT_VENDORS = ", except those without a vendor, which are left out"
_CHECKS = {
    "Vendor unknown": "unknown_vendors",
    "Other month": "outside_month",
    "Negative fare": "negative_fares",
    "No amount": "unknown_amounts",
    "No distance": "zero_distances",
    "No time": "no_durations",
}
_OF_FARES = {"unknown_vendors", "negative_fares", "unknown_amounts"}
_OF_DISTANCES = {"zero_distances"}


def coverage(data: ReportData) -> Section:
    """Returns a section with a row for each service: its months, and which are missing or incomplete."""
    return Section("What this covers", tables=[(_sentence(data), _services(data))], headlines=_headlines(data))


def _services(data: ReportData) -> Table:
    rows = []
    for service in sorted({file.service for file in data.files}):
        files = [file for file in data.files if file.service == service]
        months = sorted(file.month for file in files)
        missing = sorted(set(months_between(months[0], months[-1])) - set(months))
        incomplete = [month for month in months if (service, month) not in data.complete]
        trips = sum(month.trips for month in data.all_months if month.service == service)
        rows.append(
            [
                service,
                spans(months),
                spans(missing) or "none",
                spans(incomplete) or "none",
                f"{trips:,}",
                f"{max(file.loaded_at for file in files):%d %b %Y}".lstrip("0"),
            ]
        )
    return Table("What this covers", ["Service", "Months", "Missing", "Incomplete", "Trips", "Last loaded"], rows)


def _sentence(data: ReportData) -> str:
    newest = max(file.month for file in data.files)
    sentences = [f"The newest month is {month_name(newest)}."]
    if data.built_at:
        built_at = data.built_at.astimezone(datetime.UTC)
        sentences.append(f"The marts were built on {built_at:%d %B %Y at %H:%M} UTC.".replace(" on 0", " on "))
    if any((file.service, file.month) not in data.complete for file in data.files):
        sentences.append(
            "Incomplete months, such as samples and months in progress, have trips on fewer than nine in ten of their"
            " days. They are marked. They count in all totals and in the revenue per trip, but not in average hours,"
            " comparisons, and the busiest or quietest zones, hours and months."
        )
    return " ".join(sentences)


def _headlines(data: ReportData) -> list[Headline]:
    trips = sum(month.trips for month in data.all_months)
    if not trips:
        return []
    headlines = [Headline("Trips", f"{trips:,}", listed(data.services))]
    paying = [month for month in data.all_months if month.revenue is not None]
    if paying:
        revenue = sum(month.revenue or 0.0 for month in paying)
        headlines += [
            Headline("Revenue", short(revenue, "$"), dollars(revenue)),
            Headline(
                "Revenue per trip",
                dollars(revenue / sum(month.trips for month in paying)),
                "including card tips, tolls and taxes",
            ),
        ]
    return headlines


def rows(data: ReportData) -> Section:
    """Returns a section with two tables of row counts, with a row per file."""
    files = [file for file in data.files if file.quality]
    if not files:
        return Section("The files and their rows")
    needs_vendors = any(_left_out_for_vendors(file.quality) for file in files)
    became = _BECAME.format(or_vendors=_OR_VENDORS if needs_vendors else "")
    implausible = _IMPLAUSIBLE.format(but_vendors=_BUT_VENDORS if needs_vendors else "")
    return Section(
        "The files and their rows", tables=[(became, _became(files)), (implausible, _implausible(data, files))]
    )


def _left_out_for_vendors(quality: Mapping[str, Any]) -> int:
    reasons = ("unknown_pickup_times", "unknown_pickup_zones", "unknown_dropoff_zones")
    return int(quality["trips"]) - int(quality["reported"]) - sum(int(quality[reason]) for reason in reasons)


def _became(files: list[LoadedFile]) -> Table:
    counts = []
    for file in files:
        load, reported = file.load, int(file.quality["reported"])
        left_out = int(file.quality["trips"]) - reported
        counts.append([load.rows_read, load.rows_duplicate, load.rows_rejected, left_out, reported])
    cells = [[f"{count:,}" for count in row] for row in _with_totals(counts)]
    head = ["File", "Rows", "Duplicate", "Malformed", "Left out", "Reported"]
    return Table("What became of the rows", head, _named(files, cells))


def _implausible(data: ReportData, files: list[LoadedFile]) -> Table:
    quality = [file.quality for file in files]
    counts = [[int(row["trips"]), *(int(row[name]) for name in _CHECKS.values())] for row in quality]
    with_distances = {month.service for month in data.all_months if month.trips_with_distance}
    unrecorded = [
        (set() if row["has_fares"] else _OF_FARES) | (set() if row["service"] in with_distances else _OF_DISTANCES)
        for row in quality
    ]
    cells = [
        [f"{loaded:,}"]
        + [
            f"{count:,} ({percent(count, loaded)})" if count else NONE if name in missing else "0"
            for name, count in zip(_CHECKS.values(), implausible, strict=True)
        ]
        for (loaded, *implausible), missing in zip(
            _with_totals(counts), [*unrecorded, set.intersection(*unrecorded)], strict=False
        )
    ]
    return Table("Implausible values in the loaded rows", ["File", "Rows loaded", *_CHECKS], _named(files, cells))


def _with_totals(counts: list[list[int]]) -> list[list[int]]:
    return [*counts, [sum(column) for column in zip(*counts, strict=True)]] if len(counts) > 1 else counts


def _named(files: list[LoadedFile], cells: list[list[str]]) -> list[list[str]]:
    names = [*(file.name for file in files), "All"]
    return [[name, *row] for name, row in zip(names, cells, strict=False)]
