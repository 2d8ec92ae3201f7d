"""The contents of the marts, compared with golden rows checked by hand and, for real months, with independent SQL."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from conftest import JANUARY, execute
from golden_releases import MARTS, ZONES, as_text, golden_mart, write_release
from models import build_models, columns, load_release, mart_rows
from trips import FEBRUARY, HEADER, trip, trips

from pipeline.report.page import write_report
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.warehouse import PostgresWarehouse

pytestmark = pytest.mark.models
GREEN_2020 = [datetime.date(2020, month, 1) for month in range(3, 8)]

WITHOUT_COMMENT = """
    SELECT attrelid::regclass, attname FROM pg_attribute
    WHERE attrelid = ANY(%s::regclass[]) AND attnum > 0 AND col_description(attrelid, attnum) IS NULL
"""


@pytest.fixture
def golden(database: PostgresDatabase, golden_mirror: Path, tmp_path: Path) -> PostgresDatabase:
    """A database with the golden releases loaded."""
    for dataset, month in (("zones", JANUARY), ("green", JANUARY), ("green", FEBRUARY), ("yellow", JANUARY)):
        load_release(database, golden_mirror, tmp_path, dataset, month)
    return database


def test_marts_contain_the_golden_rows_and_the_filter_of_the_course_excludes_some(
    golden: PostgresDatabase, tmp_path: Path
) -> None:
    build_models(golden, tmp_path / "dbt")

    for name in MARTS:
        assert [columns(golden, name), *as_text(mart_rows(golden, name))] == golden_mart(name)
    described = [*MARTS, "excluded_trips", "int_zone_revenue_by_file"]
    assert execute(golden, WITHOUT_COMMENT, described) == []
    excluded = "SELECT exclusion_reason, count(*) FROM excluded_trips GROUP BY 1 ORDER BY 1"
    assert execute(golden, excluded) == [("unknown dropoff zone", 1), ("unknown pickup zone", 1)]
    assert execute(golden, "SELECT count(*) FROM fact_trips WHERE vendorid IS NULL") == [(1,)]

    build_models(golden, tmp_path / "dbt", variables={"known_vendors_only": True})
    assert execute(golden, "SELECT count(*) FROM fact_trips WHERE vendorid IS NULL") == [(0,)]
    excluded = "SELECT count(*) FROM excluded_trips WHERE exclusion_reason = 'unknown vendor'"
    assert execute(golden, excluded) == [(1,)]


def test_revenue_of_real_months_equals_that_of_the_files(
    database: PostgresDatabase, real_releases: Path, tmp_path: Path
) -> None:
    load_release(database, real_releases, tmp_path, "zones")
    for month in GREEN_2020:
        load_release(database, real_releases, tmp_path, "green", month)

    build_models(database, tmp_path / "dbt")

    # Computed differently from the models: cents as integers, zones by their numbers.
    [(cents, trips)] = execute(
        database,
        "SELECT sum(round(total_amount * 100)::bigint), count(*) FROM green_tripdata"
        " WHERE pulocationid::int BETWEEN 1 AND 263 AND dolocationid::int BETWEEN 1 AND 263",
    )
    [(revenue, counted)] = execute(
        database, "SELECT sum(revenue_monthly_total_amount), sum(total_monthly_trips) FROM dm_monthly_zone_revenue"
    )
    assert (revenue * 100, counted) == (cents, trips)
    assert execute(database, "SELECT count(*) FROM fact_trips") == [(trips,)]
    assert mart_rows(database, "dm_monthly_zone_revenue") == execute(database, INDEPENDENT_REVENUE)


@pytest.mark.parametrize(
    "unknown",
    [
        '264,"Unknown","NV","N/A"\n265,"Unknown","NA","N/A"\n',
        '264,"Unknown","N/A","N/A"\n265,"N/A","Outside of NYC","N/A"\n',
    ],
    ids=["until 2024", "since 2024"],
)
def test_zones_264_and_265_are_unknown_in_both_editions_of_the_look_up(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, unknown: str
) -> None:
    (mirror / "misc").mkdir(exist_ok=True)
    (mirror / "misc/taxi_zone_lookup.csv").write_text(ZONES.replace('264,"Unknown","NV","N/A"\n', unknown))
    lines = [trip(0), trip(1, pulocationid="264"), trip(2, pulocationid="265"), trip(3, dolocationid="265")]
    write_release(mirror / "green/green_tripdata_2019-01.csv.gz", [HEADER, *lines])
    for dataset in ("zones", "green"):
        load_release(database, mirror, tmp_path, dataset)

    build_models(database, tmp_path / "dbt")

    assert execute(database, "SELECT count(*), max(pickup_zone) FROM fact_trips") == [(1, "Central Harlem")]
    counts = "SELECT trips, reported, unknown_pickup_zones, unknown_dropoff_zones FROM file_quality"
    assert execute(database, counts) == [(4, 1, 2, 1)]


def test_unusual_values_become_unknown_and_are_counted(
    database: PostgresDatabase, golden_mirror: Path, tmp_path: Path
) -> None:
    write_release(golden_mirror / "green/green_tripdata_2019-01.csv.gz", [HEADER, *trips(12)])
    for dataset in ("zones", "green"):
        load_release(database, golden_mirror, tmp_path, dataset)
    for number, value in enumerate(UNUSUAL_VALUES):
        dropped_off = datetime.datetime(2019, 1, 1, 0, number + 9)
        execute(database, f"UPDATE green_tripdata SET {value} WHERE lpep_dropoff_datetime = %s", dropped_off)

    build_models(database, tmp_path / "dbt")

    assert execute(database, "SELECT count(*), count(vendorid), count(fare_amount) FROM fact_trips") == [(8, 5, 7)]
    distance = "SELECT trip_distance::text FROM fact_trips WHERE vendorid = -1"
    assert execute(database, distance) == [("123456789.123456700",)]
    paid = "SELECT payment_type_description FROM fact_trips WHERE payment_type = 77"
    assert execute(database, paid) == [("Unknown",)]
    of_astoria = "FROM dm_monthly_zone_revenue WHERE revenue_zone = 'Astoria'"
    revenue = f"SELECT revenue_monthly_total_amount, total_monthly_trips {of_astoria}"
    assert execute(database, revenue) == [(None, 1)]
    reasons = "SELECT exclusion_reason, count(*) FROM excluded_trips GROUP BY 1 ORDER BY 1"
    assert execute(database, reasons) == [
        ("unknown dropoff zone", 1),
        ("unknown pickup time", 2),
        ("unknown pickup zone", 1),
    ]
    checks = "trips, reported, excluded, unknown_pickup_times, unknown_vendors, unknown_amounts"
    assert execute(database, f"SELECT {checks} FROM file_quality") == [(12, 8, 4, 2, 3, 2)]
    build_models(database, tmp_path / "dbt", name="test")
    write_report(PostgresWarehouse(database, database.schema), "PostgreSQL", tmp_path / "page.html", "")
    assert "<td>2 (16.7" in (tmp_path / "page.html").read_text()


UNUSUAL_VALUES = [
    "vendorid = '2.0'",
    "vendorid = 'CMT'",
    "pulocationid = 'Astoria'",
    "lpep_pickup_datetime = NULL",
    "lpep_pickup_datetime = '294276-01-01'",
    "fare_amount = 1.79e308",
    "payment_type = 77",
    "dolocationid = '07'",
    "vendorid = '-1', trip_distance = 123456789.1234567",
    "vendorid = '1234567890'",
    "pulocationid = '7', total_amount = NULL",  # all of the zone's revenue in the month
]

INDEPENDENT_REVENUE = """
    SELECT
        z.zone, make_timestamp(extract(year FROM t.lpep_pickup_datetime)::int,
                               extract(month FROM t.lpep_pickup_datetime)::int, 1, 0, 0, 0), 'Green',
        sum(fare_amount::text::numeric), sum(extra::text::numeric), sum(mta_tax::text::numeric),
        sum(tip_amount::text::numeric), sum(tolls_amount::text::numeric), sum(ehail_fee::text::numeric),
        sum(improvement_surcharge::text::numeric), sum(total_amount::text::numeric),
        sum(congestion_surcharge::text::numeric), count(*),
        round(avg(passenger_count), 6), round(avg(trip_distance::text::numeric), 6), NULL::numeric, NULL::numeric
    FROM green_tripdata t JOIN taxi_zone_lookup z ON z.locationid = t.pulocationid
    WHERE t.pulocationid NOT IN ('264', '265') AND t.dolocationid NOT IN ('264', '265')
    GROUP BY 1, 2 ORDER BY 1, 2
"""
