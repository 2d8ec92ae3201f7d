"""ReconcileTripdata and both warehouses in use: equal rows are confirmed, and differences are reported."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import pytest
from conftest import JANUARY, Run, execute
from gcp import GoogleCloud
from trips import FEBRUARY, HEADER, trip, trips

from pipeline.datasets import Release, dataset_named
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse
from pipeline.warehouses.checksums import FileChecksums, differences
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.partitions import file_checksums

CHANGES = {
    "DELETE FROM green_tripdata WHERE unique_row_id = {id}": " rows in PostgreSQL, ",
    "UPDATE green_tripdata SET tip_amount = tip_amount + 0.01 WHERE unique_row_id = {id}": "tip_amount sums to",
    "UPDATE green_tripdata SET store_and_fwd_flag = 'x' WHERE unique_row_id = {id}": "store_and_fwd_flag sums to",
    "UPDATE green_tripdata SET trip_type = NULL WHERE unique_row_id = {id}": "trip_type has ",
    "UPDATE green_tripdata SET unique_row_id = md5('x') WHERE unique_row_id = {id}": "not the same rows",
}
RECONCILE = ("ReconcileTripdata", "--taxi", "green", "--month", "2019-01")


@pytest.fixture
def loaded(luigi: Run, google_cloud: GoogleCloud) -> None:
    """Green 2019-01 is loaded into both warehouses and reconciled."""
    done = luigi(*RECONCILE)
    assert done.returncode == 0, done.stderr
    assert "green/2019-01: the same 500 rows in PostgreSQL and BigQuery" in done.stderr


@pytest.mark.usefixtures("loaded")
def test_reconciled_loads_are_not_compared_again(luigi: Run, google_cloud: GoogleCloud) -> None:
    jobs = len(google_cloud.jobs())

    assert luigi(*RECONCILE).returncode == 0

    steps = {job["configuration"]["labels"]["step"] for job in google_cloud.jobs()[jobs:]}
    assert steps == {"ledger"}


@pytest.mark.usefixtures("loaded")
def test_difference_between_the_warehouses_is_reported(
    luigi: Run, pipeline: Run, database: PostgresDatabase, tmp_path: Path, google_cloud: GoogleCloud
) -> None:
    warehouse = BigQueryWarehouse(google_cloud.project, google_cloud.project.dataset, 1, Path())
    in_bigquery = warehouse.checksums(Release(dataset_named("green"), JANUARY))
    query = "SELECT unique_row_id, lpep_pickup_datetime::date FROM green_tripdata WHERE trip_type IS NOT NULL LIMIT 1"
    ((row_id, day),) = execute(database, query)

    for change, message in CHANGES.items():
        execute(database, "CREATE TABLE kept AS SELECT * FROM green_tripdata WHERE unique_row_id = %s", row_id)
        execute(database, change.format(id=f"'{row_id}'"))
        (line,) = differences(checksums_in_postgres(database), in_bigquery)
        assert line.startswith(f"{day}: ") and message in line
        execute(database, "DELETE FROM green_tripdata WHERE unique_row_id IN (%s, md5('x'))", row_id)
        execute(database, "INSERT INTO green_tripdata SELECT * FROM kept")
        execute(database, "DROP TABLE kept")
    assert differences(checksums_in_postgres(database), in_bigquery) == []

    pair = "SELECT a.unique_row_id, b.unique_row_id FROM green_tripdata AS a JOIN green_tripdata AS b"
    same_day = "ON a.lpep_pickup_datetime::date = b.lpep_pickup_datetime::date AND a.tip_amount < b.tip_amount LIMIT 1"
    (ids,) = execute(database, f"{pair} {same_day}")
    exchange_tips = """
        UPDATE green_tripdata AS trip SET tip_amount = other.tip_amount FROM green_tripdata AS other
        WHERE %s IN (trip.unique_row_id, other.unique_row_id) AND %s IN (trip.unique_row_id, other.unique_row_id)
          AND trip.unique_row_id <> other.unique_row_id"""
    execute(database, exchange_tips, *ids)
    (line,) = differences(checksums_in_postgres(database), in_bigquery)
    assert line.endswith("each column has the same sum, but some values are in other rows")
    execute(database, exchange_tips, *ids)
    assert differences(checksums_in_postgres(database), in_bigquery) == []

    execute(database, "DELETE FROM green_tripdata WHERE unique_row_id = %s", row_id)
    assert luigi(*RECONCILE).returncode == 0  # these loads have already been compared
    done = luigi(*RECONCILE, "--force")
    assert done.returncode == 30
    (line,) = [line for line in done.stderr.splitlines() if "ERROR: " in line]
    assert f"green/2019-01 is not the same in PostgreSQL and BigQuery: {day}: " in line
    assert "Rows were changed in PostgreSQL after the load; load the month again: " in line
    assert line.endswith("`pipeline load green 2019-01 --force --warehouse postgres`")

    assert pipeline("load", "green", "2019-01", "--force", "--warehouse", "postgres").returncode == 0
    assert luigi(*RECONCILE).returncode == 0


@pytest.mark.usefixtures("loaded")
def test_months_that_were_loaded_before_the_spec_gained_a_column_are_compared(
    luigi: Run, database: PostgresDatabase
) -> None:
    execute(database, "ALTER TABLE green_tripdata DROP COLUMN request_source")

    done = luigi(*RECONCILE, "--force")

    assert done.returncode == 0, done.stderr
    assert "green/2019-01: the same 500 rows in PostgreSQL and BigQuery" in done.stderr


@pytest.mark.usefixtures("loaded")
def test_rows_that_are_missing_in_both_warehouses_are_reported(
    luigi: Run, database: PostgresDatabase, google_cloud: GoogleCloud
) -> None:
    on_the_ninth = "DELETE FROM green_tripdata WHERE EXTRACT(day FROM lpep_pickup_datetime) = 9"
    execute(database, on_the_ninth)
    google_cloud.rows(on_the_ninth)
    left = google_cloud.rows("SELECT COUNT(*) FROM green_tripdata")[0][0]
    assert left < 500

    done = luigi(*RECONCILE, "--force")

    assert done.returncode == 30
    assert f"PostgreSQL has {left} rows of green/2019-01 and BigQuery {left}, but 500 were loaded. " in done.stderr
    assert "`pipeline load green 2019-01 --force --warehouse both`" in done.stderr


def test_months_that_share_rows_are_equal_after_what_the_message_says(
    luigi: Run, pipeline: Run, mirror: Path, google_cloud: GoogleCloud
) -> None:
    """The file that is loaded first has the shared row; `--force` does not change that."""
    months = {"2019-01": [*trips(3), trip(1, FEBRUARY)], "2019-02": trips(3, FEBRUARY)}
    for month, lines in months.items():
        write_gzipped_csv(mirror / f"green/green_tripdata_{month}.csv.gz", lines)
    for month in ("2019-01", "2019-02"):
        assert pipeline("load", "green", month).returncode == 0
    for month in ("2019-02", "2019-01"):
        assert pipeline("load", "green", month, "--warehouse", "bigquery").returncode == 0

    failed = luigi(*RECONCILE)
    assert failed.returncode == 30
    remedy = "for the months that load_quarantine names with duplicate_of_other_file, and load them again"
    assert "2019-02-01: 1 row in PostgreSQL, 0 in BigQuery. Rows that several files have " in failed.stderr
    assert remedy in failed.stderr

    assert pipeline("forget", "green", "2019-01..2019-02").returncode == 0
    for month in ("2019-01", "2019-02"):
        assert pipeline("load", "green", month, "--warehouse", "both").returncode == 0
    assert luigi(*RECONCILE).returncode == 0


def test_loads_of_different_files_are_named(luigi: Run, pipeline: Run, mirror: Path, google_cloud: GoogleCloud) -> None:
    assert pipeline("load", "green", "2019-01").returncode == 0
    write_gzipped_csv(mirror / "green/green_tripdata_2019-01.csv.gz", trips(3))
    assert pipeline("load", "green", "2019-01", "--warehouse", "bigquery", "--force").returncode == 0

    failed = luigi(*RECONCILE)

    assert failed.returncode == 30
    assert "The loads are of different files" in failed.stderr
    assert "`pipeline load green 2019-01 --force --warehouse both`" in failed.stderr


@pytest.mark.usefixtures("loaded")
def test_status_shows_both_warehouses_and_forget_removes_from_both(pipeline: Run, google_cloud: GoogleCloud) -> None:
    status = pipeline("status")
    assert status.returncode == 0, status.stderr
    (line,) = [line for line in status.stdout.splitlines() if line.startswith("green/2019-01")]
    assert line.split().count("500") == 2
    entries = json.loads(pipeline("status", "--json").stdout)
    assert [(entry["warehouse"], entry["rows_loaded"]) for entry in entries] == [("postgres", 500), ("bigquery", 500)]

    forgotten = pipeline("forget", "--taxi", "green", "--month", "2019-01")

    assert "removed from PostgreSQL; removed from BigQuery; " in forgotten.stdout
    assert json.loads(pipeline("status", "--json").stdout) == []
    assert google_cloud.rows("SELECT COUNT(*) FROM green_tripdata") == [(0,)]
    assert google_cloud.objects() == []


@pytest.mark.usefixtures("loaded")
def test_wrong_location_is_reported_by_status_and_by_forget_which_removes_nothing(
    pipeline: Run, google_cloud: GoogleCloud
) -> None:
    reason = " is in US and [gcp] location is EU; a bucket and the datasets"
    status = pipeline("status", PIPELINE__GCP__LOCATION="EU")
    assert status.returncode == 1
    assert "green/2019-01" in status.stdout  # which is in the other warehouse, too
    assert reason in status.stderr
    assert len(status.stderr.splitlines()) == 1

    failed = pipeline("forget", "--taxi", "green", "--month", "2019-01", PIPELINE__GCP__LOCATION="EU")
    assert failed.returncode == 1
    assert reason in failed.stderr
    assert google_cloud.rows("SELECT COUNT(*) FROM green_tripdata") == [(500,)]


def checksums_in_postgres(database: PostgresDatabase) -> FileChecksums:
    with contextlib.closing(database.connect()) as connection:
        return file_checksums(connection, database.schema, Release(dataset_named("green"), JANUARY))


def write_gzipped_csv(file: Path, lines: list[bytes]) -> None:
    file.write_bytes(gzip.compress(b"".join(line + b"\r\n" for line in (HEADER, *lines))))
