"""The `luigi` command: repeated, resumed, forced and concurrent runs; exit codes and log."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT, JANUARY, Run, execute, run_command, settings, start_command
from trips import FEBRUARY, HEADER, trip, trips

from pipeline.datasets import dataset_named
from pipeline.sample import write_month, write_zones
from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")


def test_month_is_loaded_once_and_a_second_run_does_nothing(luigi: Run, database: PostgresDatabase) -> None:
    first = luigi(*LOAD)
    assert first.returncode == 0, first.stderr
    assert "green/2019-01: 500 rows loaded into green_tripdata" in first.stderr
    before = ledger_and_table(database)

    second = luigi(*LOAD)
    assert second.returncode == 0, second.stderr
    assert "1 complete ones were encountered" in second.stderr
    assert ledger_and_table(database) == before


def test_damaged_copy_is_replaced_by_what_the_message_says(
    luigi: Run, database: PostgresDatabase, tmp_path: Path
) -> None:
    assert luigi("ExtractTripdata", *LOAD[1:]).returncode == 0
    raw = tmp_path / "data/raw/green/green_tripdata_2019-01.csv.gz"
    raw.write_bytes(raw.read_bytes()[:-100])

    failed = luigi(*LOAD)
    assert failed.returncode == 30
    assert "the gzip stream is cut off" in failed.stderr
    assert "; if it is complete at its source, run again with --force, which downloads it again" in failed.stderr
    assert luigi(*LOAD, "--force").returncode == 0
    assert execute(database, "SELECT rows_loaded FROM load_ledger") == [(500,)]


@pytest.mark.parametrize("taxi", ["fhv", "yellow"])
def test_other_datasets_are_loaded_into_their_own_tables(
    luigi: Run, database: PostgresDatabase, mirror: Path, taxi: str
) -> None:
    write_month(dataset_named(taxi), FEBRUARY, 50, mirror)

    loaded = luigi("LoadTripdata", "--taxi", taxi, "--month", "2019-02")
    assert loaded.returncode == 0, loaded.stderr
    assert execute(database, f"SELECT count(*) FROM {taxi}_tripdata") == [(50,)]


def test_zones_are_loaded_once_and_reloaded_by_force(luigi: Run, database: PostgresDatabase, mirror: Path) -> None:
    zones = write_zones(mirror)
    assert luigi("LoadZones").returncode == 0
    loaded = execute(database, "SELECT count(*), max(zone) FROM taxi_zone_lookup")
    assert loaded == [(265, 'Sample zone "99"')]

    zones.write_text(zones.read_text().replace("Sample", "Renamed"))
    assert "1 complete ones" in luigi("LoadZones").stderr
    assert execute(database, "SELECT count(*), max(zone) FROM taxi_zone_lookup") == loaded
    assert luigi("LoadZones", "--force").returncode == 0
    assert execute(database, "SELECT count(*), max(zone) FROM taxi_zone_lookup") == [(265, 'Renamed zone "99"')]


def test_run_after_a_failed_load_reuses_the_extracted_file(
    luigi: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    republish(mirror, [*trips(10), trip(10, trip_distance="far")])
    failed = luigi(*LOAD)
    assert failed.returncode == 30
    assert "invalid input syntax" in failed.stderr and "Traceback" not in failed.stderr
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(0,)]
    extracted = raw_file(tmp_path).stat().st_mtime_ns

    resumed = luigi(*LOAD, "--max-bad-rows", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert "running   ExtractTripdata" not in resumed.stderr
    assert raw_file(tmp_path).stat().st_mtime_ns == extracted
    assert execute(database, "SELECT rows_loaded, rows_rejected FROM load_ledger") == [(10, 1)]


def test_loaded_month_stays_complete_without_its_raw_file_and_source(luigi: Run, mirror: Path, tmp_path: Path) -> None:
    assert luigi(*LOAD).returncode == 0
    raw_file(tmp_path).unlink()
    shutil.rmtree(mirror)

    again = luigi(*LOAD)
    assert again.returncode == 0
    assert "Did not run any tasks" in again.stderr
    assert not raw_file(tmp_path).exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_force_replaces_a_republished_month(luigi: Run, database: PostgresDatabase, mirror: Path, workers: str) -> None:
    luigi(*LOAD)
    [(old,)] = execute(database, "SELECT source_sha256 FROM load_ledger")
    write_month(dataset_named("green"), JANUARY, 400, mirror)
    assert "Did not run any tasks" in luigi(*LOAD).stderr

    forced = luigi(*LOAD, "--force", "--workers", workers)
    assert forced.returncode == 0, forced.stderr
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(400,)]
    [(rows, new)] = execute(database, "SELECT rows_loaded, source_sha256 FROM load_ledger")
    assert rows == 400 and new != old


def test_two_concurrent_runs_of_a_month_load_it_once(database: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    # Without keep_raw, the first run may remove the raw file before the second run looks for it.
    environment = settings(tmp_path, database, mirror) | {"PIPELINE__STORAGE__KEEP_RAW": "false"}
    runs = [start_command("luigi", "--module", "pipeline", *LOAD, **environment) for _ in range(2)]
    outputs = [run.communicate(timeout=60)[0] for run in runs]

    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sum("500 rows loaded into" in output for output in outputs) == 1
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(500,)]
    assert execute(database, "SELECT rows_loaded, rows_duplicate FROM load_ledger") == [(500, 0)]


def test_two_concurrent_runs_of_different_months_both_load(
    database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    write_month(dataset_named("green"), FEBRUARY, 300, mirror)
    environment = settings(tmp_path, database, mirror)
    runs = [
        start_command("luigi", "--module", "pipeline", *LOAD[:-1], month, **environment)
        for month in ("2019-01", "2019-02")
    ]
    outputs = [run.communicate(timeout=60)[0] for run in runs]

    assert [run.returncode for run in runs] == [0, 0], outputs
    assert execute(database, "SELECT partition_key, rows_loaded FROM load_ledger ORDER BY 1") == [
        ("green/2019-01", 500),
        ("green/2019-02", 300),
    ]


def test_month_that_does_not_exist_is_reported_in_one_line(luigi: Run) -> None:
    failed = luigi(*LOAD[:-1], "2031-05")

    assert failed.returncode == 30
    [line] = [line for line in failed.stderr.splitlines() if "ERROR: " in line]
    assert "green 2031-05 does not exist at" in line and "known to be published" not in line
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--taxi", "geen", "--month", "2019-01"), "--taxi geen: there is no such monthly dataset; there are: fhv,"),
        (("--taxi", "green", "--month", "2019-13"), "--month: '2019-13' is not a month such as 2019-01"),
        (("--taxi", "green", "--month", "2019-1"), "--month: '2019-1' is not a month such as 2019-01"),
        (("--taxi", "green", "--month", "9999-12"), "--month: '9999-12' is not a month such as 2019-01"),
        (("--taxi", "green"), "LoadTripdata needs --month (which month, such as 2019-01)"),
    ],
)
def test_invalid_parameter_is_reported_and_exits_with_40(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    # No database is configured, because nothing may be accessed before the parameters are valid.
    failed = run_command(
        "luigi", "--module", "pipeline", "LoadTripdata", *arguments, PIPELINE__STORAGE__ROOT=str(tmp_path / "none")
    )
    assert failed.returncode == 40
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "none").exists()


def test_unreachable_database_is_a_scheduling_error_reported_in_one_line_without_the_password(luigi: Run) -> None:
    dsn = "postgresql://me:s3cr%65t@127.0.0.1:1/taxi"
    failed = luigi(*LOAD, PIPELINE__POSTGRES__DSN=dsn, PGPASSWORD="s3cret")

    assert failed.returncode == 35
    [line] = [line for line in failed.stderr.splitlines() if "ERROR: " in line]
    assert "no connection to PostgreSQL" in line and "port 1 failed" in line
    assert "check [postgres] dsn and PG" in line and "PGPASSWORD" in line
    assert "Is the server running" not in line
    assert "Traceback" not in failed.stderr
    for secret in ("s3cret", "s3cr%65t"):
        assert secret not in failed.stdout + failed.stderr


def test_raw_file_removed_before_the_load_is_reported(database: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    code = "import pipeline, datetime as d; pipeline.LoadTripdata(taxi='green', month=d.date(2019, 1, 1)).run()"
    failed = run_command("python", "-c", code, **settings(tmp_path, database, mirror))

    message = f"PipelineError: {raw_file(tmp_path)} was removed before it was loaded; run again"
    assert failed.stderr.splitlines()[-1].endswith(message)


def test_programming_error_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "flawed.py").write_text(
        "from pipeline.tasks.base import PipelineTask\n"
        "class Flawed(PipelineTask):\n"
        "    def run(self):\n"
        "        {}['missing']\n"
    )
    failed = run_command("luigi", "--module", "flawed", "Flawed", PYTHONPATH=f"{tmp_path}:{CHECKOUT}")

    assert failed.returncode == 30
    assert "Traceback (most recent call last)" in failed.stderr
    assert "KeyError: 'missing'" in failed.stderr


def ledger_and_table(database: PostgresDatabase) -> list[list[tuple[Any, ...]]]:
    """Returns the ledger and the table with the rows' physical positions, which change if anything is written."""
    return [
        execute(database, "SELECT * FROM load_ledger"),
        execute(database, "SELECT ctid, tableoid, xmin, unique_row_id FROM green_tripdata ORDER BY 1, 2"),
    ]


def raw_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "raw" / "green" / "green_tripdata_2019-01.csv.gz"


def republish(mirror: Path, lines: list[bytes]) -> None:
    file = mirror / "green" / "green_tripdata_2019-01.csv.gz"
    file.write_bytes(gzip.compress(b"".join(line + b"\r\n" for line in [HEADER, *lines])))


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("DbtBuild", "--warehouse", "mysql"), "'mysql' is not one of postgres, bigquery", 40),
        (
            ("RangeMonthly", "--of", "LoadTripdata", "--start", "2019-01", "--stop", "2019-02"),
            "requires the 'taxi'",
            35,
        ),
        (
            ("RangeMonthly", "--of", "LoadZones", "--start", "2019-05", "--stop", "2019-04"),
            "--start 2019-05 --stop 2019-04 contains no month",
            35,
        ),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(
    luigi: Run, arguments: tuple[str, ...], message: str, code: int
) -> None:
    done = luigi(*arguments)

    assert done.returncode == code
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "ERROR: " in line or line.startswith("luigi: ")]
    assert message in line


def test_force_extracts_a_file_that_was_fixed_at_its_source(
    luigi: Run, database: PostgresDatabase, mirror: Path
) -> None:
    file = mirror / "green" / "green_tripdata_2019-02.csv.gz"
    load = ("LoadTripdata", "--taxi", "green", "--month", "2019-02")
    file.write_bytes(gzip.compress(b"\r\n".join([HEADER, *trips(2, FEBRUARY), trip(3, fare_amount="far"), b""])))
    failed = luigi(*load)
    assert failed.returncode == 30
    assert "Fix the file at its source and run again with --force" in failed.stderr

    file.write_bytes(gzip.compress(b"\r\n".join([HEADER, *trips(3, FEBRUARY), b""])))
    done = luigi(*load, "--force")
    assert done.returncode == 0, done.stderr
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(3,)]
