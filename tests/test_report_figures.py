"""The report's figures as the warehouses aggregate them: right on PostgreSQL, and the same on BigQuery."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import Run, execute, job_for
from gcp import GoogleCloud
from trips import job_of, trip, trips

from pipeline.datasets import Dataset
from pipeline.progress import silent
from pipeline.report.figures import Figures, read_figures
from pipeline.report.files import FileSummary
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load
from pipeline.warehouses.postgres.warehouse import PostgresWarehouse

# What the models make, in short: all trips but those of zone 265.
FACT_TRIPS = """
CREATE TABLE fact_trips AS
SELECT
    filename,
    'Green' AS service_type,
    lpep_pickup_datetime AS pickup_datetime,
    CAST(total_amount AS NUMERIC) AS total_amount,
    CASE WHEN pulocationid <> '264' THEN 'Queens' END AS pickup_borough,
    CASE WHEN pulocationid <> '264' THEN CONCAT('Zone ', pulocationid) END AS pickup_zone
FROM green_tripdata
WHERE pulocationid <> '265'
"""


def figures_of(database: PostgresDatabase) -> Figures:
    execute(database, FACT_TRIPS)
    return read_figures(PostgresWarehouse(database, database.schema))


def test_figures_are_those_of_the_rows(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = [
        *trips(10),
        trip(0),
        trip(20, vendorid="", total_amount=".1"),
        trip(21, vendorid="", total_amount=".2", fare_amount="-3"),
        trip(22, pulocationid="264"),
        trip(23, pulocationid="265"),
        trip(24, lpep_pickup_datetime="2041-05-01 10:00:00"),
        trip(25, lpep_pickup_datetime="2018-12-31 23:59:59"),
        b"not a trip",
    ]
    job = job_of(lines, tmp_path, max_bad_rows=1)
    load(database, job, silent)

    figures = figures_of(database)

    assert figures.files == [
        FileSummary(
            service="Green",
            month="2019-01",
            source=job.source_url,
            read=18,
            duplicate=1,
            rejected=1,
            loaded=16,
            reported=15,
            blank_vendors=2,
            outside_month=2,
            negative_fares=1,
        )
    ]
    assert figures.by_month().to_numpy().tolist() == [["Green", "2019-01", 13, pytest.approx(11 * 9.3 + 0.3)]]
    assert figures.hours["trips"].sum() == 15
    assert figures.misdated()["trips"].sum() == 2
    assert figures.by_zone()["Green"].to_dict() == {"Zone 41, Queens": 14, "Unknown": 1}


def test_nothing_loaded_has_figures_too(
    database: PostgresDatabase, green: Dataset, mirror: Path, tmp_path: Path
) -> None:
    load(database, job_for(green, mirror, tmp_path), silent)
    execute(database, "DELETE FROM green_tripdata")
    execute(database, "DELETE FROM load_ledger")

    figures = figures_of(database)

    assert (len(figures.hours), len(figures.zones), figures.files, figures.services) == (0, 0, [], [])
    assert figures.by_month().empty


def test_both_warehouses_have_the_same_figures(
    luigi: Run, google_cloud: GoogleCloud, database: PostgresDatabase
) -> None:
    for task in ("LoadTripdata", "LoadTripdataToBigQuery"):
        loaded = luigi(task, "--taxi", "green", "--month", "2019-01")
        assert loaded.returncode == 0, loaded.stderr
    google_cloud.rows(FACT_TRIPS)

    of_postgres = figures_of(database)
    of_bigquery = read_figures(BigQueryWarehouse(google_cloud.place, google_cloud.place.dataset, 4, Path("unused")))

    assert of_bigquery.files == of_postgres.files
    for name, keys in (("hours", ["date", "hour"]), ("zones", ["zone"])):
        here, there = (
            getattr(figures, name).sort_values(keys, ignore_index=True) for figures in (of_postgres, of_bigquery)
        )
        pd.testing.assert_frame_equal(here, there)
    assert of_postgres.hours["trips"].sum() > 450
