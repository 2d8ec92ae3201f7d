"""`pipeline adopt` takes over a table that the Kestra flows created; the result equals, row by row, that of a load."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from conftest import JANUARY, Run, execute, job_for, publish, settings, start_command
from trips import FEBRUARY, HEADER, partitions, row_count, schema_contents, trip, trips, write_load_job
from waiting import eventually, lock_held, wait_for_sessions_to_end

from pipeline.datasets import Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.progress import silent
from pipeline.sample import write_month
from pipeline.warehouses.postgres.adoption import adopt
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

GREEN = dataset_named("green")
COLUMNS = GREEN.columns_of(JANUARY, GREEN.sources[0])
NAMES = [column.name for column in COLUMNS]
# As real files do, these have blank vendors, a trip with its refund, and a time of another month.
LINES = [
    *trips(50),
    trip(51, vendorid="", passenger_count=""),
    trip(52, fare_amount="-8"),
    trip(52),
    trip(53, lpep_pickup_datetime="2008-12-31 23:02:22", trip_distance="205654.12"),
]


def run_flow(database: PostgresDatabase, lines: Iterable[bytes], folder: Path, month: Any = JANUARY) -> None:
    """Loads a file as a flow does: COPY into a staging table, UPDATE of ids and filename, MERGE into the table."""
    definitions = ", ".join(f"{column.name} {column.postgres_type}" for column in COLUMNS)
    key = " || ".join(f"COALESCE(CAST({name} AS text), '')" for name in GREEN.row_key)
    filename = Release(GREEN, month).filename
    columns = ["unique_row_id", "filename", *NAMES]
    with contextlib.closing(psycopg2.connect(database.dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {database.schema}; SET search_path = {database.schema}")
        for table in ("green_tripdata", "green_tripdata_staging"):
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} (unique_row_id text, filename text, {definitions})")
        cursor.execute("TRUNCATE green_tripdata_staging")
        (folder / filename).write_bytes(b"".join(line + b"\n" for line in (HEADER, *lines)))
        with (folder / filename).open("rb") as file:
            copy = f"COPY green_tripdata_staging ({', '.join(NAMES)}) FROM STDIN WITH (FORMAT csv, HEADER)"
            cursor.copy_expert(copy, file)
        cursor.execute(f"UPDATE green_tripdata_staging SET unique_row_id = md5({key}), filename = '{filename}'")
        cursor.execute(
            "MERGE INTO green_tripdata AS T USING green_tripdata_staging AS S ON T.unique_row_id = S.unique_row_id"
            f" WHEN NOT MATCHED THEN INSERT ({', '.join(columns)}) VALUES ({', '.join(f'S.{c}' for c in columns)})"
        )


def rows(database: PostgresDatabase, table: str = "green_tripdata") -> list[tuple[Any, ...]]:
    columns = ", ".join(["unique_row_id", "filename", *NAMES])
    return execute(database, f"SELECT {columns} FROM {table} ORDER BY 1, {table}::text")


def ledger(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    return execute(
        database,
        "SELECT task_family, partition_key, source, source_url, rows_read, rows_loaded, rows_duplicate"
        " FROM load_ledger ORDER BY 2",
    )


def relations(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    """Returns all relations and functions of the schema."""
    return execute(
        database,
        "SELECT relname::text, relkind::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " UNION ALL SELECT proname::text, 'function' FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
        " ORDER BY 1",
    )


def test_table_of_the_flows_is_adopted_with_all_its_rows(
    pipeline: Run, luigi: Run, database: PostgresDatabase, tmp_path: Path
) -> None:
    run_flow(database, LINES, tmp_path)
    run_flow(database, trips(40, FEBRUARY), tmp_path, FEBRUARY)
    rows_before = rows(database)

    done = pipeline("adopt", "green")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "1 of 2 green/2019-01: 54 rows\n2 of 2 green/2019-02: 40 rows\n"
    assert f"{database.schema}.green_tripdata: 94 rows of 2 months adopted" in done.stdout
    assert rows(database) == rows_before == rows(database, "green_tripdata_of_the_flows")
    assert partitions(database) == ["green_tripdata_2019_01", "green_tripdata_2019_02"]
    source = f"adopted from {database.schema}.green_tripdata_of_the_flows"
    assert ledger(database) == [
        ("LoadTripdata", "green/2019-01", "adopted", source, 54, 54, 0),
        ("LoadTripdata", "green/2019-02", "adopted", source, 40, 40, 0),
    ]
    assert execute(database, "SELECT count(*) FROM pg_indexes WHERE tablename = 'green_tripdata_of_the_flows'") == [
        (0,)
    ]

    assert "adopted from" in pipeline("status").stdout
    again = luigi("LoadTripdata", "--taxi", "green", "--month", "2019-01")
    assert again.returncode == 0 and "Did not run any tasks" in again.stderr
    refused = pipeline("adopt", "green")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "it is already a table of this pipeline, so there is nothing to adopt" in refused.stderr


def test_adopted_table_equals_a_loaded_table(
    pipeline: Run, database: PostgresDatabase, tmp_path: Path, mirror: Path
) -> None:
    loaded = replace(database, schema=f"{database.schema}_loaded")
    # The flows' MERGE inserts both of two equal rows, and both of two different rows with the same key.
    lines = [*LINES, trip(9), trip(9), trip(10, tip_amount="3")]
    run_flow(database, lines, tmp_path)
    run_flow(database, [*trips(3, FEBRUARY)], tmp_path, FEBRUARY)
    try:
        load(loaded, write_load_job(lines, tmp_path), silent)
        load(loaded, write_load_job(trips(3, FEBRUARY), tmp_path, FEBRUARY), silent)
        done = pipeline("adopt", "green")
        assert done.returncode == 0, done.stderr
        assert "green/2019-01: 55 rows, 2 set aside in load_quarantine" in done.stderr
        adopted, expected = schema_contents(database), schema_contents(loaded)
        assert adopted["green_tripdata"] == expected["green_tripdata"]
        quarantined = "SELECT target_table, filename, reason, detail, unique_row_id, row_values FROM load_quarantine"
        assert execute(database, quarantined) == execute(loaded, quarantined)
        kept = [name for name in adopted["relations"] if "of_the_flows" not in name[0] and "staging" not in name[0]]
        assert kept == expected["relations"]
    finally:
        execute(replace(database, schema="public"), f"DROP SCHEMA IF EXISTS {loaded.schema} CASCADE")
    # Later loads work as with any other table: they add a new month, and replace an adopted one.
    publish(mirror, "2019-03")
    assert pipeline("load", "green", "2019-01..2019-03").returncode == 0
    assert pipeline("load", "green", "2019-01", "--force").returncode == 0
    assert [(key, source) for _, key, source, *_ in ledger(database)] == [
        ("green/2019-01", "mirror"),
        ("green/2019-02", "adopted"),
        ("green/2019-03", "mirror"),
    ]


def test_months_of_other_datasets_are_loaded_during_an_adoption(database: PostgresDatabase, tmp_path: Path) -> None:
    yellow = dataset_named("yellow")
    write_month(yellow, JANUARY, 10, tmp_path / "mirror")
    job = job_for(yellow, tmp_path / "mirror", tmp_path)
    load(database, job, silent)
    run_flow(database, LINES, tmp_path)

    def load_again(*_: object) -> None:
        assert load(replace(database, lock_timeout=2), replace(job, replace=True), silent).rows_loaded == 10

    adopt(database, GREEN, "LoadTripdata", False, load_again)
    assert row_count(database, "yellow_tripdata") == 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DROP TABLE green_tripdata", "there is no such table"),
        ("DELETE FROM green_tripdata", "it has no rows; drop it"),
        ("ALTER TABLE green_tripdata DROP filename, DROP extra", "it lacks the columns extra, filename, so"),
        ("ALTER TABLE green_tripdata ALTER vendorid TYPE integer USING 1", "its column vendorid is integer, not text"),
        (
            "ALTER TABLE green_tripdata ADD mine text",
            "it has columns that the flows do not create: mine; drop them first",
        ),
        (
            "UPDATE green_tripdata SET filename = 'yellow_tripdata_2019-01.csv' WHERE vendorid IS NULL",
            "1 rows have the filename 'yellow_tripdata_2019-01.csv', which is not a file of green",
        ),
        ("UPDATE green_tripdata SET filename = NULL WHERE vendorid IS NULL", "1 rows have no filename"),
        (
            "UPDATE green_tripdata SET unique_row_id = 'mine' WHERE vendorid IS NULL",
            "rows whose unique_row_id is not the one that the flows compute: green_tripdata_2019-01.csv 1 of 54; use",
        ),
        (
            "CREATE TABLE green_tripdata_of_the_flows (x text)",
            "it would be kept as green_tripdata_of_the_flows, but",
        ),
    ],
)
def test_table_that_differs_from_those_of_the_flows_is_refused(
    database: PostgresDatabase, tmp_path: Path, change: str, reason: str
) -> None:
    run_flow(database, LINES, tmp_path)
    execute(database, change)
    before = relations(database)
    with pytest.raises(PipelineError) as refused:
        adopt(database, GREEN, "LoadTripdata", False, lambda *_: None)
    start = f"{database.schema}.green_tripdata was not adopted and nothing has changed: "
    assert str(refused.value).startswith(start + reason)
    assert relations(database) == before


def test_recompute_ids_adopts_a_table_with_other_ids(pipeline: Run, database: PostgresDatabase, tmp_path: Path) -> None:
    run_flow(database, LINES, tmp_path)
    rows_before = rows(database)
    execute(database, "UPDATE green_tripdata SET unique_row_id = md5('mine' || unique_row_id)")
    done = pipeline("adopt", "green", "--recompute-ids")
    assert done.returncode == 0, done.stderr
    assert rows(database) == rows_before


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_adoption_that_is_interrupted_or_killed_changes_nothing(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, pipeline: Run, sent: signal.Signals
) -> None:
    run_flow(database, LINES, tmp_path)
    run_flow(database, trips(40, FEBRUARY), tmp_path, FEBRUARY)
    before = relations(database), rows(database)
    named = replace(database, dsn=f"{database.dsn}&application_name={database.schema}")
    # A reader of the table blocks the adoption when it locks the table.
    with lock_held(database, "LOCK TABLE green_tripdata IN ACCESS SHARE MODE"):
        process = start_command("pipeline", "adopt", "green", **settings(tmp_path, named, mirror))
        waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        eventually(lambda: execute(database, waits, database.schema) != [])
        process.send_signal(sent)
        output, _ = process.communicate(timeout=20)
    wait_for_sessions_to_end(database, database.schema)
    if sent is signal.SIGINT:
        assert (process.returncode, output) == (130, "pipeline: interrupted; nothing has changed\n")
    assert (relations(database), rows(database)) == before
    done = pipeline("adopt", "green")
    assert done.returncode == 0, done.stderr


def test_adoption_killed_between_two_files_changes_nothing(
    database: PostgresDatabase, mirror: Path, tmp_path: Path, pipeline: Run
) -> None:
    run_flow(database, LINES, tmp_path)
    for number in range(2, 8):
        month = JANUARY.replace(month=number)
        run_flow(database, trips(2000, month), tmp_path, month)
    before = relations(database), rows(database)
    named = replace(database, dsn=f"{database.dsn}&application_name={database.schema}")
    process = start_command("pipeline", "adopt", "green", **settings(tmp_path, named, mirror))
    assert process.stdout is not None
    assert process.stdout.readline().startswith("1 of 7 green/2019-01")
    process.kill()
    process.communicate(timeout=20)
    wait_for_sessions_to_end(database, database.schema)
    assert (relations(database), rows(database)) == before
    assert pipeline("adopt", "green").returncode == 0
