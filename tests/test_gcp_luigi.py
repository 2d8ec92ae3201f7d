"""The `luigi` command on Google Cloud: months are loaded once, reloaded with --force, forgotten, loaded in parallel."""

from __future__ import annotations

import datetime
import gzip
from collections import Counter
from pathlib import Path

import pytest
from conftest import JANUARY, Run, execute, publish, settings, start_command
from gcp import GoogleCloud
from gcp_trips import FILE, trips_in

from pipeline.datasets import dataset_named
from pipeline.sample import write_month, write_zones
from pipeline.warehouses.postgres.connection import PostgresDatabase

MONTH = ("--taxi", "green", "--month", "2019-01")
LOAD = ("LoadTripdataToBigQuery", *MONTH)
CHANGE = "^(POST|PUT|PATCH|DELETE) "


def test_month_is_uploaded_and_loaded_once_and_a_second_run_does_nothing(
    luigi: Run, google_cloud: GoogleCloud, mirror: Path
) -> None:
    first = luigi(*LOAD)
    assert first.returncode == 0, first.stderr
    assert "green/2019-01: 500 rows loaded into green_tripdata" in first.stderr
    released = gzip.decompress((mirror / "green" / f"{FILE}.gz").read_bytes())
    assert google_cloud.content(FILE) == released
    assert google_cloud.rows("SELECT COUNT(*), COUNT(DISTINCT unique_row_id) FROM green_tripdata") == [(500, 500)]
    assert google_cloud.tables(google_cloud.project.staging_dataset) == []

    google_cloud.wire.requests.clear()
    second = luigi(*LOAD)
    assert second.returncode == 0, second.stderr
    assert "1 complete ones were encountered" in second.stderr
    ledger_queries = google_cloud.wire.seen('^POST .*"step": "ledger"')
    assert google_cloud.wire.seen(CHANGE) == ledger_queries and len(ledger_queries) == 1


def test_month_is_loaded_from_the_given_source_even_if_another_one_was_uploaded(
    luigi: Run, google_cloud: GoogleCloud, mirror: Path
) -> None:
    write_month(dataset_named("green"), JANUARY, 40, mirror, "tlc")
    assert luigi("UploadTripdata", *MONTH).returncode == 0

    loaded = luigi(*LOAD, "--source", "tlc")

    assert loaded.returncode == 0, loaded.stderr
    assert (google_cloud.marker()["source"], google_cloud.marker()["rows_loaded"]) == ("tlc", 40)


def test_forced_and_forgotten_months_are_loaded_again(
    luigi: Run, pipeline: Run, google_cloud: GoogleCloud, mirror: Path
) -> None:
    assert luigi(*LOAD).returncode == 0
    old = google_cloud.marker()
    write_month(dataset_named("green"), JANUARY, 400, mirror)
    forced = luigi(*LOAD, "--force", "--workers", "2")
    assert forced.returncode == 0, forced.stderr
    new = google_cloud.marker()
    assert (old["rows_loaded"], new["rows_loaded"]) == (500, 400)
    assert old["source_sha256"] != new["source_sha256"]
    before = trips_in(google_cloud)
    assert len(before) == 400

    forgotten = pipeline("forget", *MONTH)
    assert forgotten.returncode == 0, forgotten.stderr
    assert (google_cloud.objects(), trips_in(google_cloud)) == ([], [])
    assert luigi(*LOAD).returncode == 0
    assert trips_in(google_cloud) == before


def test_four_workers_load_a_range_of_months(luigi: Run, google_cloud: GoogleCloud, mirror: Path) -> None:
    for month in range(1, 5):
        write_month(dataset_named("green"), datetime.date(2019, month, 1), 100, mirror)

    range_of_months = (
        *("RangeMonthly", "--of", "LoadTripdataToBigQuery", "--of-params", '{"taxi":"green"}'),
        *("--start", "2019-01", "--stop", "2019-05", "--workers", "4"),
    )
    done = luigi(*range_of_months)

    assert done.returncode == 0, done.stderr
    files = Counter(file for _, file, _ in trips_in(google_cloud))
    assert files == {f"green_tripdata_2019-{month:02}.csv": 100 for month in range(1, 5)}

    google_cloud.wire.requests.clear()
    again = luigi(*range_of_months)
    assert again.returncode == 0 and "Did not run any tasks" in again.stderr, again.stderr
    assert len(google_cloud.wire.seen(CHANGE)) == 1  # one query for all months


def test_two_runs_of_a_month_at_the_same_time_load_it_once(
    database: PostgresDatabase, google_cloud: GoogleCloud, mirror: Path, tmp_path: Path
) -> None:
    environment = settings(tmp_path, database, mirror)
    runs = [start_command("luigi", "--module", "pipeline", *LOAD, **environment) for _ in range(2)]
    for run in runs:
        output, _ = run.communicate(timeout=120)
        assert run.returncode == 0, output

    assert len(trips_in(google_cloud)) == 500
    labels = [job["configuration"].get("labels") or {} for job in google_cloud.jobs()]
    assert [label.get("step") for label in labels].count("load") == 1


def test_zones_are_loaded(luigi: Run, google_cloud: GoogleCloud, mirror: Path) -> None:
    write_zones(mirror)
    done = luigi("LoadZonesToBigQuery")

    assert done.returncode == 0, done.stderr
    assert google_cloud.rows("SELECT COUNT(*), MAX(zone) FROM taxi_zone_lookup") == [(265, 'Sample zone "99"')]


def test_bad_row_is_reported_in_one_line(luigi: Run, google_cloud: GoogleCloud, mirror: Path) -> None:
    file = mirror / "green" / f"{FILE}.gz"
    lines = gzip.decompress(file.read_bytes()).split(b"\r\n")
    lines[3] = lines[3].replace(b",", b",x", 2)
    file.write_bytes(gzip.compress(b"\r\n".join(lines)))

    failed = luigi(*LOAD)

    assert failed.returncode == 30
    assert f"{FILE}.gz, line 4, column lpep_pickup_datetime: " in failed.stderr and "Traceback" not in failed.stderr
    assert google_cloud.objects() == []


def test_real_month_has_the_same_rows_in_both_warehouses(
    luigi: Run, google_cloud: GoogleCloud, database: PostgresDatabase, real_releases: Path
) -> None:
    month = ("--taxi", "green", "--month", "2020-04")
    for task in ("LoadTripdata", "LoadTripdataToBigQuery"):
        done = luigi(task, *month, PIPELINE__SOURCE__BASE_URL=str(real_releases))
        assert done.returncode == 0, done.stderr

    ids = google_cloud.rows("SELECT TO_HEX(unique_row_id) FROM green_tripdata ORDER BY 1")
    assert len(ids) == 35_612
    assert ids == execute(database, "SELECT unique_row_id FROM green_tripdata ORDER BY 1")
    released = gzip.decompress((real_releases / "green" / "green_tripdata_2020-04.csv.gz").read_bytes())
    assert google_cloud.content("green_tripdata_2020-04.csv") == released
    assert google_cloud.marker("green/2020-04")["rows_loaded"] == 35_612


def test_real_parquet_month_has_the_same_rows_in_both_warehouses(
    luigi: Run, google_cloud: GoogleCloud, database: PostgresDatabase, real_releases: Path
) -> None:
    done = luigi(
        *("ReconcileTripdata", "--taxi", "green", "--month", "2024-07"),
        PIPELINE__SOURCE__BASE_URL=str(real_releases),
        PIPELINE__SOURCE__TLC_BASE_URL=str(real_releases.parent / "trip-data"),
    )
    assert done.returncode == 0, done.stderr

    ids = google_cloud.rows("SELECT TO_HEX(unique_row_id) FROM green_tripdata ORDER BY 1")
    assert len(ids) == 51_837  # two of them have the same key as another row and differ from it
    assert ids == execute(database, "SELECT unique_row_id FROM green_tripdata ORDER BY 1")


@pytest.mark.parametrize("workers", ["1", "3"])
def test_raw_file_is_removed_after_the_last_task_that_reads_it(
    luigi: Run, google_cloud: GoogleCloud, tmp_path: Path, workers: str
) -> None:
    raw = tmp_path / "data" / "raw"
    keep_no_raw_files = {"PIPELINE__STORAGE__KEEP_RAW": "false"}
    assert luigi(*LOAD, **keep_no_raw_files).returncode == 0
    assert [file for file in raw.rglob("*") if file.is_file() and ".locks" not in file.parts] == []

    both = luigi("ReconcileTripdata", *MONTH, "--workers", workers, **keep_no_raw_files)
    assert both.returncode == 0, both.stderr

    publish(tmp_path / "mirror", "2019-02")
    february = luigi(
        "ReconcileTripdata", "--taxi", "green", "--month", "2019-02", "--workers", workers, **keep_no_raw_files
    )
    assert february.returncode == 0, february.stderr
    assert "was removed before" not in february.stderr
    assert [file for file in raw.rglob("*") if file.is_file() and ".locks" not in file.parts] == []
