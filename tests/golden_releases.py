"""Release files that are small enough to check by hand, and the marts built from them, `golden_marts/*.csv`."""

from __future__ import annotations

import csv
import datetime
import gzip
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from trips import HEADER, trip

from pipeline.datasets import Release, dataset_named

MARTS = {
    "dim_zones": "locationid",
    "fact_trips": "tripid",
    "dm_monthly_zone_revenue": "revenue_zone, revenue_month, service_type",
    "trips_by_hour": "filename, pickup_date, pickup_hour",
    "file_quality": "filename",
}
BLANK = dict.fromkeys(
    [
        "vendorid",
        "store_and_fwd_flag",
        "ratecodeid",
        "passenger_count",
        "payment_type",
        "trip_type",
        "congestion_surcharge",
    ],
    "",
)
JANUARY = [
    trip(0),
    trip(1, **BLANK, total_amount="4.1"),
    trip(2, pulocationid="264"),  # a zone whose borough is unknown
    trip(3, dolocationid="265"),  # a zone that is not in the look-up table
    trip(4, fare_amount="-8", total_amount="-9.3", passenger_count="3"),
    trip(5, pulocationid="56", total_amount=".1", trip_distance="1"),  # two zones with the same name, and amounts
    trip(6, pulocationid="57", total_amount=".2", trip_distance="2"),  # whose sum in binary floating point is not .3
    trip(7, lpep_pickup_datetime="2008-12-31 23:02:22", total_amount="5"),
]
FEBRUARY = [
    trip(0, datetime.date(2019, 2, 1), total_amount="7.77", payment_type="2", trip_type="2"),
    trip(1, datetime.date(2019, 2, 1), lpep_pickup_datetime="2019-01-31 23:59:59", total_amount="1.01"),
]
YELLOW = [
    "1,2019-01-15 08:00:00,2019-01-15 08:20:00,2,3.5,1,N,42,41,1,14.5,0,0.5,3.06,0,0.3,18.36,2.5",
    "2,2019-01-15 09:00:00,2019-01-15 09:05:00,1,.8,99,Y,7,56,5,5,0,0.5,0,6.12,0.3,11.92,",
]
ZONES = """\
"LocationID","Borough","Zone","service_zone"
7,"Queens","Astoria","Boro Zone"
41,"Manhattan","Central Harlem","Boro Zone"
42,"Manhattan","Central Harlem North","Boro Zone"
56,"Queens","Corona","Boro Zone"
57,"Queens","Corona","Boro Zone"
264,"Unknown","NV","N/A"
"""


def write_golden_releases(folder: Path) -> None:
    """Writes a mirror of green 2019-01 and 2019-02, yellow 2019-01 and the zones below `folder`."""
    yellow = Release(dataset_named("yellow"), datetime.date(2019, 1, 1))
    columns = yellow.dataset.columns_of(yellow.month, yellow.source_named())
    header = ",".join(column.source_name for column in columns).encode()
    write_release(folder / "green/green_tripdata_2019-01.csv.gz", [HEADER, *JANUARY])
    write_release(folder / "green/green_tripdata_2019-02.csv.gz", [HEADER, *FEBRUARY])
    write_release(folder / "yellow/yellow_tripdata_2019-01.csv.gz", [header, *(line.encode() for line in YELLOW)])
    (folder / "misc").mkdir(parents=True, exist_ok=True)
    (folder / "misc/taxi_zone_lookup.csv").write_text(ZONES)


def write_release(file: Path, lines: Iterable[bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(b"".join(line + b"\r\n" for line in lines)))


def golden_mart(name: str) -> list[list[str]]:
    """Returns the mart's column names, followed by its expected rows."""
    with (Path(__file__).parent / "golden_marts" / f"{name}.csv").open(newline="") as file:
        return list(csv.reader(file))


def as_text(rows: Iterable[Iterable[Any]]) -> list[list[str]]:
    """Returns rows of either warehouse as text, in the format of the golden files."""
    return [[_text(value) for value in row] for row in rows]


def _text(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return "" if value is None else str(value)
