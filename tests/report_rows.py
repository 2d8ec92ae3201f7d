"""Generated results of the report's queries, as a warehouse would return them."""

from __future__ import annotations

import calendar
import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.datasets import parse_month
from pipeline.files import named_statements
from pipeline.report.sections import LoadedFile, ReportData
from pipeline.warehouses.ledger import LedgerEntry

ASTORIA = (7, "Astoria", "Queens")
HARLEM = (74, "East Harlem North", "Manhattan")
LOADED_AT = datetime.datetime(2026, 1, 1, 9, tzinfo=datetime.UTC)


@dataclass
class Marts:
    """A warehouse for the report's queries only, with the result of each statement by its name."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def select(self, query: str, marts: Iterable[str] = ()) -> list[dict[str, Any]]:
        [name] = [name for name, text in named_statements("report").items() if text == query]
        return self.rows[name]


def report_data(
    months: Mapping[str, Sequence[str]],
    zones: Sequence[tuple[int, str, str] | None] = (HARLEM, ASTORIA),
    misdated: Sequence[datetime.date] = (),
    days: int = 31,
    without_fares: Sequence[str] = (),
) -> ReportData:
    """The report's data on some months of each service.

    On each of the first `days` of a month there are 40 trips at 08:00 and 20 at 20:00, each of one dollar, one mile and
    ten minutes. The first zone has two thirds of them. Each misdated day has one more trip.
    """
    marts, files = Marts(), []
    for service, names in months.items():
        with_fares = service not in without_fares
        for month in map(parse_month, names):
            days_with_trips = min(days, calendar.monthrange(month.year, month.month)[1])
            _add_month(marts, service, month, days_with_trips, zones, with_fares)
            load = _load(service, month, 60 * days_with_trips)
            quality = _quality(service, 60 * days_with_trips, with_fares)
            files.append(LoadedFile(service, f"{month:%Y-%m}", load, quality))
        for day in misdated:
            marts.rows["select_months"].append(_month(service, day, 1, 1, with_fares))
            marts.rows["select_zones"].append(_zone(service, day, zones[0], 1, with_fares))
    marts.rows["select_zone_names"] = [
        {"zone_id": zone[0], "zone": zone[1], "borough": zone[2]} for zone in zones if zone
    ]
    return ReportData(marts, files, LOADED_AT)  # type: ignore[arg-type]


def _add_month(
    marts: Marts, service: str, month: datetime.date, days: int, zones: Sequence[Any], with_fares: bool
) -> None:
    marts.rows["select_months"].append(_month(service, month, days, 60 * days, with_fares))
    for day in range(days):
        for hour, trips in ((8, 40), (20, 20)):
            of_day = month + datetime.timedelta(days=day)
            marts.rows["select_week"].append(
                {**_when(service, of_day), "weekday": of_day.isoweekday(), "hour": hour, "trips": trips}
            )
    week: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in marts.rows["select_week"]:  # one row for each group, as from GROUP BY
        key = tuple(row[name] for name in ("service", "year", "month", "weekday", "hour"))
        week[key] = {**row, "trips": row["trips"] + (week[key]["trips"] if key in week else 0)}
    marts.rows["select_week"] = list(week.values())
    first = 40 * days if len(zones) > 1 else 60 * days
    shares = [first, *[(60 * days - first) // max(1, len(zones) - 1)] * (len(zones) - 1)]
    marts.rows["select_zones"] += [
        _zone(service, month, zone, trips, with_fares) for zone, trips in zip(zones, shares, strict=True)
    ]
    if with_fares:
        marts.rows["select_payments"] += [
            {**_when(service, month), "payment": payment, "trips": trips, "revenue": trips, "tips": trips / 10}
            for payment, trips in (("Credit card", 40 * days), ("EMPTY", 20 * days))
        ]


def _when(service: str, day: datetime.date) -> dict[str, Any]:
    return {"service": service, "year": day.year, "month": day.month}


def _month(service: str, day: datetime.date, days: int, trips: int, with_fares: bool) -> dict[str, Any]:
    return {
        **_when(service, day),
        "days": days,
        "trips": trips,
        "revenue": trips if with_fares else None,
        "fares": trips / 2 if with_fares else None,
        "tips": trips / 10 if with_fares else None,
        "distance": trips,
        "trips_with_distance": trips,
        "minutes": 10 * trips,
        "trips_with_duration": trips,
    }


def _zone(service: str, day: datetime.date, zone: Any, trips: int, with_fares: bool) -> dict[str, Any]:
    number, name, borough = zone or (None, None, None)
    revenue = trips if with_fares else None
    return {
        **_when(service, day), "zone_id": number, "zone": name, "borough": borough, "trips": trips, "revenue": revenue,
    }  # fmt: skip


def _load(service: str, month: datetime.date, trips: int) -> LedgerEntry:
    name = service.lower()
    return LedgerEntry(
        task_family="LoadTripdata",
        partition_key=f"{name}/{month:%Y-%m}",
        target_table=f"{name}_tripdata",
        source_url=f"https://releases.example/{name}/{month:%Y-%m}.csv.gz",
        source_bytes=0,
        source_sha256="",
        rows_read=trips + 10,
        rows_loaded=trips + 5,
        rows_duplicate=3,
        rows_rejected=2,
        spec_version=1,
        started_at=LOADED_AT,
    )


def _quality(service: str, trips: int, with_fares: bool) -> dict[str, Any]:
    checks = ("unknown_pickup_times", "unknown_pickup_zones", "unknown_dropoff_zones", "negative_fares")
    others = ("unknown_amounts", "zero_distances", "no_durations")
    return {
        **dict.fromkeys((*checks, *others), 0),
        "unknown_pickup_zones": 5,
        "service": service,
        "has_fares": with_fares,
        "trips": trips + 5,
        "reported": trips,
        "outside_month": 1,
        "unknown_vendors": trips // 4,
    }
