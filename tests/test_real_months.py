"""The complete real files. The expected numbers were counted independently of the pipeline."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import execute
from row_ids import count_rows_with_other_ids

from pipeline.datasets import Release, dataset_named, parse_month
from pipeline.extract import ExtractedFile
from pipeline.progress import silent
from pipeline.warehouses import LoadJob
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

GREEN_2020 = {3: 223_406, 4: 35_612, 5: 57_360, 6: 63_109, 7: 72_257}
YELLOW = {datetime.date(2020, 1, 1): 999, datetime.date(2021, 1, 1): 28_401}


def job_in(releases: Path, taxi: str, month: datetime.date | None) -> LoadJob:
    release = Release(dataset_named(taxi), month)
    file = releases / release.path_in(release.source_named("mirror"))
    return LoadJob("LoadTripdata", release, "test", file=file, extracted=ExtractedFile(source_url=file.as_uri()))


def test_every_row_of_five_green_months_is_loaded(database: PostgresDatabase, real_releases: Path) -> None:
    green = dataset_named("green")

    for month, rows in GREEN_2020.items():
        entry = load(database, job_in(real_releases, "green", datetime.date(2020, month, 1)), silent)
        assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (rows, rows, 0, 0)

    by_file = "SELECT filename, count(*) FROM green_tripdata GROUP BY 1"
    assert dict(execute(database, by_file)) == {f"green_tripdata_2020-{m:02}.csv": n for m, n in GREEN_2020.items()}
    assert count_rows_with_other_ids(database, green) == 0
    # The vendors that count as blank in the key are blank in these files, so the older flows give the same ids.
    assert count_rows_with_other_ids(database, replace(green, key_blanks={})) == 0
    ids = "SELECT count(DISTINCT unique_row_id) FROM green_tripdata"
    assert execute(database, ids) == [(sum(GREEN_2020.values()),)]
    # Every line ends with CRLF. No part of it may remain in the last column, where a blank must be NULL.
    surcharges = "SELECT DISTINCT congestion_surcharge FROM green_tripdata WHERE vendorid IS NULL"
    assert execute(database, surcharges) == [(None,)]


@pytest.mark.parametrize(("month", "rows"), YELLOW.items(), ids=str)
def test_every_row_of_a_yellow_sample_is_loaded(
    database: PostgresDatabase, real_releases: Path, month: datetime.date, rows: int
) -> None:
    entry = load(database, job_in(real_releases, "yellow", month), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (rows, rows, 0, 0)
    assert execute(database, "SELECT count(*) FROM yellow_tripdata") == [(rows,)]
    assert count_rows_with_other_ids(database, dataset_named("yellow")) == 0


# By month: the rows of the Parquet file, and how many of them have the key of a row that comes later by its text.
GREEN_PARQUET = {"2020-03": (223_496, 0), "2021-01": (76_518, 0), "2022-01": (62_495, 2), "2023-02": (64_809, 5)}
GREEN_PARQUET |= {"2024-07": (51_837, 2), "2025-11": (46_912, 1)}


def parquet_job(releases: Path, month: str) -> LoadJob:
    file = releases.parent / "trip-data" / f"green_tripdata_{month}.parquet"
    release = Release(dataset_named("green"), parse_month(month))
    return LoadJob("LoadTripdata", release, "test", file=file, extracted=ExtractedFile(source_url=file.as_uri()))


def test_every_row_of_the_parquet_months_is_loaded(database: PostgresDatabase, real_releases: Path) -> None:
    for month, (rows, _) in GREEN_PARQUET.items():
        entry = load(database, parquet_job(real_releases, month), silent)
        assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (rows, rows, 0, 0)
        assert entry.format == "parquet"

    assert count_rows_with_other_ids(database, dataset_named("green")) == sum(n for _, n in GREEN_PARQUET.values())
    ids = "SELECT count(DISTINCT unique_row_id), count(*) FROM green_tripdata"
    total = sum(rows for rows, _ in GREEN_PARQUET.values())
    assert execute(database, ids) == [(total, total)]
    fee = "SELECT filename FROM green_tripdata WHERE cbd_congestion_fee IS NOT NULL GROUP BY 1"
    assert execute(database, fee) == [("green_tripdata_2025-11.csv",)]


def test_ids_of_a_month_are_the_same_from_csv_and_from_parquet(database: PostgresDatabase, real_releases: Path) -> None:
    """The Parquet file of 2020-03 has every row of the CSV file, and 90 more."""
    load(database, job_in(real_releases, "green", datetime.date(2020, 3, 1)), silent)
    execute(database, "CREATE TABLE from_csv AS SELECT unique_row_id FROM green_tripdata")

    load(database, replace(parquet_job(real_releases, "2020-03"), replace=True), silent)

    query = "SELECT count(a.unique_row_id), count(b.unique_row_id), count(*) FROM green_tripdata AS a"
    assert execute(database, f"{query} FULL JOIN from_csv AS b USING (unique_row_id)") == [(223_496, 223_406, 223_496)]


def test_all_zones_are_loaded(database: PostgresDatabase, real_releases: Path) -> None:
    entry = load(database, job_in(real_releases, "zones", None), silent)

    assert (entry.rows_read, entry.rows_loaded) == (265, 265)
    query = "SELECT * FROM taxi_zone_lookup WHERE locationid IN ('1', '265') ORDER BY 1"
    assert execute(database, query) == [
        ("1", "EWR", "Newark Airport", "EWR"),
        ("265", "Unknown", "NA", "N/A"),
    ]
