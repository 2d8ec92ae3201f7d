"""The real files, whole: what they hold was counted once by other means."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import execute
from row_ids import rows_with_another_id

from pipeline.datasets import Release, dataset_named
from pipeline.progress import silent
from pipeline.warehouses import LoadJob
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

GREEN_2020 = {3: 223_406, 4: 35_612, 5: 57_360, 6: 63_109, 7: 72_257}
YELLOW = {datetime.date(2020, 1, 1): 999, datetime.date(2021, 1, 1): 28_401}


def job_in(releases: Path, dataset: str, month: datetime.date | None) -> LoadJob:
    spec = dataset_named(dataset)
    release = Release(spec, month)
    file = releases / release.path_in(release.source_named("mirror"))
    return LoadJob("LoadTripdata", Release(spec, month), "test", file=file, source_url=file.as_uri())


def test_every_row_of_five_green_months_is_loaded(database: PostgresDatabase, real_releases: Path) -> None:
    green = dataset_named("green")

    for month, rows in GREEN_2020.items():
        entry = load(database, job_in(real_releases, "green", datetime.date(2020, month, 1)), silent)
        assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (rows, rows, 0, 0)

    by_file = "SELECT filename, count(*) FROM green_tripdata GROUP BY 1"
    assert dict(execute(database, by_file)) == {f"green_tripdata_2020-{m:02}.csv": n for m, n in GREEN_2020.items()}
    assert rows_with_another_id(database, green) == 0
    # What counts as blank in the key is blank in these files: the ids are those of the older flows.
    assert rows_with_another_id(database, replace(green, key_blanks={})) == 0
    ids = "SELECT count(DISTINCT unique_row_id) FROM green_tripdata"
    assert execute(database, ids) == [(sum(GREEN_2020.values()),)]
    # CRLF ends every line: nothing of it may be left in the last column, nor make its blanks anything but NULL.
    surcharges = "SELECT DISTINCT congestion_surcharge FROM green_tripdata WHERE vendorid IS NULL"
    assert execute(database, surcharges) == [(None,)]


@pytest.mark.parametrize(("month", "rows"), YELLOW.items(), ids=str)
def test_every_row_of_a_yellow_sample_is_loaded(
    database: PostgresDatabase, real_releases: Path, month: datetime.date, rows: int
) -> None:
    entry = load(database, job_in(real_releases, "yellow", month), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (rows, rows, 0, 0)
    assert execute(database, "SELECT count(*) FROM yellow_tripdata") == [(rows,)]
    assert rows_with_another_id(database, dataset_named("yellow")) == 0


def test_all_zones_are_loaded(database: PostgresDatabase, real_releases: Path) -> None:
    entry = load(database, job_in(real_releases, "zones", None), silent)

    assert (entry.rows_read, entry.rows_loaded) == (265, 265)
    query = "SELECT * FROM taxi_zone_lookup WHERE locationid IN ('1', '265') ORDER BY 1"
    assert execute(database, query) == [
        ("1", "EWR", "Newark Airport", "EWR"),
        ("265", "Unknown", "NA", "N/A"),
    ]
