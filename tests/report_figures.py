"""Figures of the report made to order, as if a warehouse had been asked."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.datasets import parse_month
from pipeline.report.figures import Figures
from pipeline.report.files import FileSummary

ASTORIA = ("Astoria", "Queens")
HARLEM = ("East Harlem North", "Manhattan")


def figures(
    months: Mapping[str, Sequence[str]],
    zones: Sequence[tuple[str, str]] = (HARLEM, ASTORIA),
    misdated: Sequence[datetime.date] = (),
) -> Figures:
    """Twice as many trips at 08:00 as at 20:00 of each day of the months of each service; 60 and a dollar a trip.

    The zones have them in turns; on each misdated day there is one more of each service.
    """
    loaded = [(service, parse_month(month)) for service, names in months.items() for month in names]
    hours = [
        (service, month.replace(day=day), hour, trips)
        for service, month in loaded
        for day in range(1, calendar.monthrange(month.year, month.month)[1] + 1)
        for hour, trips in ((8, 40), (20, 20))
    ]
    hours += [(service, day, 3, 1) for service in months for day in misdated]
    places = [(row[0], *zones[number % len(zones)], row[3]) for number, row in enumerate(hours)]
    return Figures(
        hours=_with_revenue(hours, ["service", "date", "hour", "trips"]).astype({"date": "datetime64[s]"}),
        zones=_with_revenue(places, ["service", "zone", "borough", "trips"]),
        files=[_file(service, month, hours) for service, month in loaded],
    )


def _with_revenue(rows: Sequence[tuple[object, ...]], columns: list[str]) -> pd.DataFrame:
    types = {"trips": "int", "service": "str"} | {name: "str" for name in columns if name in ("zone", "borough")}
    frame = pd.DataFrame(rows, columns=columns).astype(types)
    return frame.assign(revenue=frame["trips"] * 1.0)


def _file(service: str, month: datetime.date, hours: Sequence[tuple[str, datetime.date, int, int]]) -> FileSummary:
    reported = sum(trips for of, date, _, trips in hours if (of, date.replace(day=1)) == (service, month))
    return FileSummary(
        service=service,
        month=f"{month:%Y-%m}",
        source=f"https://releases.example/{service.lower()}/{month:%Y-%m}.csv.gz",
        read=reported + 10,
        duplicate=3,
        rejected=2,
        loaded=reported + 5,
        reported=reported,
        blank_vendors=reported // 4,
        outside_month=1,
        negative_fares=0,
    )
