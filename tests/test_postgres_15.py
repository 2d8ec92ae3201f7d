"""PostgreSQL 15 as Debian packages it, with a password and an ordinary role, as on a managed server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import execute
from row_ids import count_rows_with_other_ids
from trips import FEBRUARY, loading_tables, partitions, row_count, schema_contents, trip, trips, write_load_job

from pipeline.datasets import Dataset, Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.progress import silent
from pipeline.releases import csv_file
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import forget, load

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
# PostgreSQL does not run as root; Debian's package creates a user for it.
AS_SERVER = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def run(program: str, *arguments: str) -> None:
    subprocess.run([*AS_SERVER, PROGRAMS / program, *arguments], check=True, cwd="/", stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def server_15() -> Iterator[str]:
    """The DSN of a PostgreSQL 15, with a role that owns its database and has no other rights."""
    if not (PROGRAMS / "postgres").exists():
        pytest.skip(f"PostgreSQL 15 is not installed: there is no {PROGRAMS} (apt-get install postgresql-15)")
    folder = Path(tempfile.mkdtemp())
    password = folder / "password"
    password.write_text("secret")
    if AS_SERVER:
        shutil.chown(folder, "postgres")
        shutil.chown(password, "postgres")
    data = str(folder / "data")
    run(
        "initdb", "-D", data, "-U", "admin", "-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--no-sync"
    )
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        dsn = f"postgresql://{{}}:secret@/{{}}?host={quote(str(folder), safe='')}"
        admin = PostgresDatabase(dsn.format("admin", "postgres"), "public")
        execute(admin, "CREATE ROLE loader LOGIN PASSWORD 'secret' NOSUPERUSER")
        subprocess.run(
            [PROGRAMS / "createdb", "--owner", "loader", "--maintenance-db", admin.dsn, "taxi"], check=True, cwd="/"
        )
        yield dsn.format("loader", "taxi")
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def on_15(server_15: str, database: PostgresDatabase) -> Iterator[PostgresDatabase]:
    """A schema on PostgreSQL 15 that has the name of the test's schema on the embedded server, which is version 18."""
    yield PostgresDatabase(server_15, database.schema)
    execute(PostgresDatabase(server_15, "public"), f"DROP SCHEMA IF EXISTS {database.schema} CASCADE")


def test_server_has_version_15_and_the_role_is_not_a_superuser(on_15: PostgresDatabase) -> None:
    query = "SELECT current_setting('server_version_num')::int / 10000, current_setting('is_superuser')"
    assert execute(on_15, query) == [(15, "off")]


def test_month_is_loaded_once_replaced_and_forgotten(on_15: PostgresDatabase, green: Dataset, tmp_path: Path) -> None:
    first = load(on_15, write_load_job(trips(40), tmp_path), silent)
    assert (first.rows_read, first.rows_loaded) == (40, 40)
    before = schema_contents(on_15)

    assert load(on_15, write_load_job(trips(50), tmp_path), silent) == first
    assert schema_contents(on_15) == before

    load(on_15, write_load_job(trips(20, FEBRUARY), tmp_path, FEBRUARY), silent)
    assert load(on_15, write_load_job(trips(50), tmp_path, replace=True), silent).rows_loaded == 50
    assert partitions(on_15) == ["green_tripdata_2019_01", "green_tripdata_2019_02"]
    assert loading_tables(on_15) == []

    assert forget(on_15, Release(green, FEBRUARY))
    assert (row_count(on_15), row_count(on_15, "load_ledger")) == (50, 1)


def test_rows_and_quarantine_are_the_same_as_on_version_18(
    on_15: PostgresDatabase, database: PostgresDatabase, green: Dataset, tmp_path: Path
) -> None:
    unusual = [
        trip(60 + i, fare_amount=text) for i, text in enumerate(["-0", ".1", "1e16", "1e-5", "1e9", "-52.00", "1e23"])
    ]
    unusual += [trip(70, lpep_pickup_datetime="2019-01-01 00:00:00.120"), trip(71, vendorid="", dolocationid="")]
    job = write_load_job([*trips(40), *unusual, trip(3), trip(7, FEBRUARY), b"bad"], tmp_path, max_bad_rows=1)

    for each in (on_15, database):
        load(each, write_load_job([trip(7, FEBRUARY)], tmp_path, FEBRUARY), silent)
        entry = load(each, job, silent)
        assert (entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (49, 2, 1)

    assert schema_contents(on_15)["green_tripdata"] == schema_contents(database)["green_tripdata"]
    quarantine = "SELECT reason, line_number, line, unique_row_id, row_values FROM load_quarantine ORDER BY 1"
    assert execute(on_15, quarantine) == execute(database, quarantine)
    assert count_rows_with_other_ids(on_15, green) == 0


@pytest.mark.parametrize("block_bytes", [4 << 20, 700], ids=["one block", "many blocks"])
def test_line_that_would_silently_end_the_copy_is_a_bad_row(
    on_15: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    r"""Before version 18, COPY stops at a line that consists of `\.` and ignores the rest."""
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", block_bytes)
    lines = [*trips(30), rb"\.", *trips(60)[30:], trip(60, extra="x"), rb"\.", rb"\."]

    with pytest.raises(PipelineError, match=r"green_tripdata_2019-01\.csv, line 32, .*only: \\\."):
        load(on_15, write_load_job(lines, tmp_path), silent)
    assert (row_count(on_15), loading_tables(on_15)) == (0, [])

    entry = load(on_15, write_load_job(lines, tmp_path, max_bad_rows=4), silent)
    assert (entry.rows_read, entry.rows_loaded, entry.rows_rejected) == (64, 60, 4)
    query = "SELECT line_number, line FROM load_quarantine ORDER BY 1"
    assert [number for number, _ in execute(on_15, query)] == [32, 63, 64, 65]


def test_end_of_copy_line_inside_quotes_is_text(on_15: PostgresDatabase, tmp_path: Path) -> None:
    dataset = replace(dataset_named("green"), lines_in_quotes=True)
    lines = [*trips(3), trip(3, store_and_fwd_flag='"a\n\\.\nb"'), trip(4)]
    load(on_15, write_load_job(lines, tmp_path, dataset=dataset, end=b"\n"), silent)

    query = "SELECT store_and_fwd_flag FROM green_tripdata ORDER BY lpep_pickup_datetime"
    assert execute(on_15, query) == [("N",), ("N",), ("N",), ("a\n\\.\nb",), ("N",)]


def test_more_bad_rows_than_allowed_change_nothing(on_15: PostgresDatabase, tmp_path: Path) -> None:
    load(on_15, write_load_job(trips(20, FEBRUARY), tmp_path, FEBRUARY), silent)
    before = schema_contents(on_15)
    lines = [*trips(9), b"", trip(9, trip_type="x"), b"\xff", trip(10, extra="\0")]

    with pytest.raises(PipelineError, match=r", line 1[1-4], .*max-bad-rows"):
        load(on_15, write_load_job(lines, tmp_path, max_bad_rows=3), silent)

    assert schema_contents(on_15) == before
    assert load(on_15, write_load_job(lines, tmp_path, max_bad_rows=4), silent).rows_rejected == 4
