"""Backfills: `RangeMonthly` for months that are years old, with the options set in luigi.cfg."""

from __future__ import annotations

import datetime
import gzip
from pathlib import Path

import pytest
from conftest import Run, execute, publish
from trips import HEADER, trip, trips

from pipeline.warehouses.postgres.connection import PostgresDatabase

GREEN = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi": "green"}')
FIRST_QUARTER = ("--start", "2019-01", "--stop", "2019-04")


@pytest.fixture
def mirror_without_february(mirror: Path) -> Path:
    """The mirror with 2019-01 and 2019-03, but without 2019-02."""
    publish(mirror, "2019-03")
    return mirror


def test_missing_month_does_not_stop_others_and_later_runs_load_only_missing_months(
    luigi: Run, database: PostgresDatabase, mirror_without_february: Path
) -> None:
    first = luigi(*GREEN, *FIRST_QUARTER, "--workers", "2")
    assert first.returncode == 30
    assert "green 2019-02 does not exist at" in first.stderr
    loaded = finish_times(database)
    assert list(loaded) == ["green/2019-01", "green/2019-03"]

    assert luigi(*GREEN, *FIRST_QUARTER).returncode == 30
    assert finish_times(database) == loaded

    publish(mirror_without_february, "2019-02")
    third = luigi(*GREEN, *FIRST_QUARTER)
    assert third.returncode == 0, third.stderr
    assert list(finish_times(database)) == ["green/2019-01", "green/2019-02", "green/2019-03"]
    assert loaded.items() <= finish_times(database).items()

    fourth = luigi(*GREEN, *FIRST_QUARTER)
    assert fourth.returncode == 0, fourth.stderr
    assert "Did not run any tasks" in fourth.stderr


def test_range_of_loaded_months_reads_the_ledger_once(luigi: Run, database: PostgresDatabase) -> None:
    assert luigi(*GREEN, "--start", "2019-01", "--stop", "2019-02").returncode == 0
    ledger = execute(database, "SELECT row_to_json(load_ledger)::text FROM load_ledger")[0][0]
    for month in range(2, 13):
        entry = ledger.replace("green/2019-01", f"green/2019-{month:02}")
        execute(database, "INSERT INTO load_ledger SELECT * FROM json_populate_record(NULL::load_ledger, %s)", entry)
    before = count_sessions(database)

    again = luigi(*GREEN, "--start", "2019-01", "--stop", "2020-01")

    assert again.returncode == 0 and "Did not run any tasks" in again.stderr, again.stderr
    assert count_sessions(database) - before < 5


def test_of_params_are_passed_to_the_load(luigi: Run, database: PostgresDatabase, mirror: Path) -> None:
    lines = [HEADER, *trips(10), trip(10, trip_distance="far")]
    (mirror / "green" / "green_tripdata_2019-01.csv.gz").write_bytes(gzip.compress(b"\r\n".join(lines)))
    january = ("--start", "2019-01", "--stop", "2019-02")
    assert luigi(*GREEN, *january).returncode == 30

    tolerant = luigi(*GREEN[:-1], '{"taxi": "green", "max_bad_rows": 1}', *january)
    assert tolerant.returncode == 0, tolerant.stderr
    before = finish_times(database)
    forced = luigi(*GREEN[:-1], '{"taxi": "green", "max_bad_rows": 1, "force": true}', *january, "--workers", "2")
    assert forced.returncode == 0, forced.stderr
    assert finish_times(database)["green/2019-01"] > before["green/2019-01"]


def test_range_into_the_future_ends_with_the_current_month(luigi: Run, database: PostgresDatabase) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    start = (today.replace(day=1) - datetime.timedelta(days=1)).replace(day=1)

    backfill = luigi(*GREEN, "--start", f"{start:%Y-%m}", "--stop", f"{today.year + 3}-01")
    assert backfill.returncode == 30
    assert f"green {start:%Y-%m} does not exist" in backfill.stderr
    assert f"green {today.year + 1}" not in backfill.stderr


def test_unknown_taxi_is_reported_without_a_traceback(luigi: Run) -> None:
    wrong = luigi(*GREEN[:-1], '{"taxi": "geen"}', *FIRST_QUARTER)
    assert wrong.returncode == 35
    assert "--taxi geen: there is no such monthly dataset; there are: fhv, fhvhv, green, yellow" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def finish_times(database: PostgresDatabase) -> dict[str, datetime.datetime]:
    """Returns when each month's load ended."""
    return dict(execute(database, "SELECT partition_key, finished_at FROM load_ledger ORDER BY 1"))


def count_sessions(database: PostgresDatabase) -> int:
    """Returns how many sessions there have been in the database."""
    return int(execute(database, "SELECT sessions FROM pg_stat_database WHERE datname = current_database()")[0][0])
