"""Loading a month into PostgreSQL by calling the modules; test_luigi.py tests the `luigi` command."""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg2.errors
import pytest
from conftest import JANUARY, execute, job_for
from row_ids import count_rows_with_other_ids, row_id
from trips import (
    FEBRUARY,
    HEADER,
    loading_tables,
    partitions,
    quote_all,
    row_count,
    schema_contents,
    trip,
    trips,
    write_load_job,
)

from pipeline.datasets import Column, Dataset, Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile
from pipeline.progress import silent
from pipeline.sample import write_month, write_zones
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import forget, load

# The names, order and types of the columns are a contract with everyone who queries the tables.
TEXT, TIME, INTEGER, DOUBLE = "text", "timestamp without time zone", "integer", "double precision"
GREEN_COLUMNS = [
    ("unique_row_id", TEXT),
    ("filename", TEXT),
    ("vendorid", TEXT),
    ("lpep_pickup_datetime", TIME),
    ("lpep_dropoff_datetime", TIME),
    ("store_and_fwd_flag", TEXT),
    ("ratecodeid", TEXT),
    ("pulocationid", TEXT),
    ("dolocationid", TEXT),
    ("passenger_count", INTEGER),
    ("trip_distance", DOUBLE),
    ("fare_amount", DOUBLE),
    ("extra", DOUBLE),
    ("mta_tax", DOUBLE),
    ("tip_amount", DOUBLE),
    ("tolls_amount", DOUBLE),
    ("ehail_fee", DOUBLE),
    ("improvement_surcharge", DOUBLE),
    ("total_amount", DOUBLE),
    ("payment_type", INTEGER),
    ("trip_type", INTEGER),
    ("congestion_surcharge", DOUBLE),
    ("cbd_congestion_fee", DOUBLE),
    ("request_source", TEXT),
]
YELLOW_COLUMNS = [
    ("unique_row_id", TEXT),
    ("filename", TEXT),
    ("vendorid", TEXT),
    ("tpep_pickup_datetime", TIME),
    ("tpep_dropoff_datetime", TIME),
    ("passenger_count", INTEGER),
    ("trip_distance", DOUBLE),
    ("ratecodeid", TEXT),
    ("store_and_fwd_flag", TEXT),
    ("pulocationid", TEXT),
    ("dolocationid", TEXT),
    ("payment_type", INTEGER),
    ("fare_amount", DOUBLE),
    ("extra", DOUBLE),
    ("mta_tax", DOUBLE),
    ("tip_amount", DOUBLE),
    ("tolls_amount", DOUBLE),
    ("improvement_surcharge", DOUBLE),
    ("total_amount", DOUBLE),
    ("congestion_surcharge", DOUBLE),
    ("airport_fee", DOUBLE),
    ("cbd_congestion_fee", DOUBLE),
    ("request_source", TEXT),
]


@pytest.mark.parametrize(("taxi", "columns"), [("green", GREEN_COLUMNS), ("yellow", YELLOW_COLUMNS)])
def test_loaded_month_has_the_documented_columns_and_its_rows_are_accounted_for(
    database: PostgresDatabase, tmp_path: Path, taxi: str, columns: list[tuple[str, str]]
) -> None:
    dataset = dataset_named(taxi)
    release = write_month(dataset, JANUARY, 500, tmp_path / "mirror")

    entry = load(database, job_for(dataset, tmp_path / "mirror", tmp_path), silent)

    query = "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE (table_schema, table_name)"
    of_table = f"{query} = (current_schema(), '{dataset.table}') ORDER BY ordinal_position"
    assert execute(database, of_table) == columns
    assert execute(database, f"SELECT filename, count(*) FROM {dataset.table} GROUP BY 1") == [
        (f"{taxi}_tripdata_2019-01.csv", 500)
    ]
    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (500, 500, 0, 0)
    assert (entry.source_bytes, entry.source_sha256) == (
        release.stat().st_size,
        hashlib.sha256(release.read_bytes()).hexdigest(),
    )
    assert (entry.task_family, entry.partition_key, entry.target_table) == (
        "LoadTripdata",
        f"{taxi}/2019-01",
        dataset.table,
    )
    assert entry.finished_at is not None
    assert entry.started_at < entry.finished_at
    assert loading_tables(database) == []


@pytest.mark.parametrize("taxi", ["green", "yellow"])
def test_row_ids_match_the_formula(database: PostgresDatabase, tmp_path: Path, taxi: str) -> None:
    dataset = dataset_named(taxi)
    release = write_month(dataset, JANUARY, 500, tmp_path / "mirror")
    load(database, job_for(dataset, tmp_path / "mirror", tmp_path), silent)

    assert count_rows_with_other_ids(database, dataset) == 0
    with gzip.open(release, "rt", newline="") as file:
        rows = [{name.lower(): value for name, value in row.items()} for row in csv.DictReader(file)]
    doubles = {"fare_amount", "trip_distance"}
    ids = {row_id(float(row[name]) if name in doubles else row[name] for name in dataset.row_key) for row in rows}
    assert ids == {
        unique_row_id for (unique_row_id,) in execute(database, f"SELECT unique_row_id FROM {dataset.table}")
    }


def test_row_id_is_the_md5_of_the_key_values(database: PostgresDatabase, tmp_path: Path) -> None:
    """The values '2' '2019-01-01 00:44:02' '2019-01-01 00:53:02' '41' '42' '8' '0.79', and the same without vendor."""
    times = {"lpep_pickup_datetime": "2019-01-01 00:44:02", "lpep_dropoff_datetime": "2019-01-01 00:53:02"}
    load(database, write_load_job([trip(0, **times), trip(0, vendorid="", **times)], tmp_path), silent)

    texts = ["22019-01-01 00:44:022019-01-01 00:53:02414280.79", "2019-01-01 00:44:022019-01-01 00:53:02414280.79"]
    found = {unique_row_id for (unique_row_id,) in execute(database, "SELECT unique_row_id FROM green_tripdata")}
    assert found == {hashlib.md5(text.encode()).hexdigest() for text in texts}


def test_row_ids_do_not_depend_on_session_settings(database: PostgresDatabase, tmp_path: Path) -> None:
    separator = "&" if "?" in database.dsn else "?"
    options = quote("-c DateStyle=German -c extra_float_digits=-3 -c quote_all_identifiers=on")
    with_options = PostgresDatabase(f"{database.dsn}{separator}options={options}", database.schema)

    load(with_options, write_load_job([trip(0, trip_distance="0.1234567890123"), *trips(5)[1:]], tmp_path), silent)

    assert count_rows_with_other_ids(database, dataset_named("green")) == 0


def test_months_can_be_loaded_and_forgotten_in_a_publication(
    database: PostgresDatabase, green: Dataset, tmp_path: Path
) -> None:
    """Rows of a published table can be deleted and changed only if the table says what identifies them."""
    load(database, write_load_job(trips(9, FEBRUARY), tmp_path, FEBRUARY), silent)
    execute(database, "ALTER TABLE load_quarantine REPLICA IDENTITY DEFAULT")  # as earlier versions created it
    execute(database, f"CREATE PUBLICATION {database.schema} FOR TABLES IN SCHEMA {database.schema}")
    lines = [*trips(9), trip(0), trip(1, extra="7"), trip(7, FEBRUARY)]

    for _ in range(2):
        entry = load(database, write_load_job(lines, tmp_path, replace=True), silent)
        assert (entry.rows_loaded, entry.rows_duplicate) == (10, 2)
    assert forget(database, Release(green, JANUARY))

    execute(database, f"DROP PUBLICATION {database.schema}")


def test_blank_value_is_null_and_quoted_blank_is_an_empty_text(database: PostgresDatabase, tmp_path: Path) -> None:
    load(
        database, write_load_job([trip(0, vendorid="", passenger_count="", store_and_fwd_flag='""')], tmp_path), silent
    )

    query = "SELECT vendorid, passenger_count, store_and_fwd_flag, ehail_fee, trip_distance FROM green_tripdata"
    assert execute(database, query) == [(None, None, "", None, 0.79)]


def test_file_with_quotes_around_everything_is_the_file_without_them(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    """As pandas, Excel and others write with quotes around all fields, blanks and the names in the header included."""
    text = '"a ""b"", c"'
    lines = [
        *trips(3),
        trip(4, vendorid="1", passenger_count="", store_and_fwd_flag=""),
        trip(5, lpep_dropoff_datetime="", store_and_fwd_flag=text, congestion_surcharge=""),
        trip(6, store_and_fwd_flag='""""'),
    ]
    loaded = load(database, write_load_job(lines, tmp_path), silent)
    query = "SELECT * FROM green_tripdata ORDER BY unique_row_id"
    plain = execute(database, query)

    assert forget(database, Release(dataset_named("green"), JANUARY))
    all_quoted = [quote_all(line) for line in (HEADER, *lines)]
    entry = load(database, write_load_job(all_quoted[1:], tmp_path, header=all_quoted[0]), silent)

    assert (entry.rows_loaded, entry.rows_rejected) == (loaded.rows_loaded, 0) == (6, 0)
    assert execute(database, query) == plain


def test_database_rejects_a_repeated_row_id(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job(trips(3), tmp_path), silent)
    load(database, write_load_job(trips(3, FEBRUARY), tmp_path, FEBRUARY), silent)
    copy = "INSERT INTO green_tripdata SELECT * FROM green_tripdata WHERE filename LIKE '%%-01.csv' LIMIT 1"
    moved = "UPDATE green_tripdata SET unique_row_id = (SELECT min(unique_row_id) FROM green_tripdata_2019_01)"

    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(database, copy)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(database, f"{moved} WHERE filename LIKE '%%-02.csv' AND extract(minute FROM lpep_pickup_datetime) = 1")


def test_loading_a_month_again_changes_nothing(database: PostgresDatabase, tmp_path: Path) -> None:
    first = load(database, write_load_job(trips(30), tmp_path), silent)
    before = schema_contents(database)

    again = load(database, write_load_job(trips(40), tmp_path), silent)

    assert again == first
    assert schema_contents(database) == before


def test_republished_file_replaces_only_its_own_month(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job([*trips(30), trip(0, extra="x")], tmp_path, max_bad_rows=1), silent)
    february = load(database, write_load_job(trips(20, FEBRUARY), tmp_path, FEBRUARY), silent)

    entry = load(database, write_load_job(trips(40)[10:], tmp_path, replace=True), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_rejected) == (30, 30, 0)
    assert row_count(database) == 50
    assert row_count(database, "load_quarantine") == 0
    assert partitions(database) == ["green_tripdata_2019_01", "green_tripdata_2019_02"]
    markers = execute(database, "SELECT partition_key, source_sha256 FROM load_ledger ORDER BY 1")
    assert markers == [("green/2019-01", entry.source_sha256), ("green/2019-02", february.source_sha256)]


def test_forgotten_month_is_removed_and_can_be_loaded_again(
    database: PostgresDatabase, green: Dataset, tmp_path: Path
) -> None:
    assert not forget(database, Release(green, JANUARY))
    load(database, write_load_job(trips(20, FEBRUARY), tmp_path, FEBRUARY), silent)
    before = schema_contents(database)
    load(database, write_load_job([*trips(30), b"", trip(0)], tmp_path, max_bad_rows=1), silent)

    assert forget(database, Release(green, JANUARY))
    assert schema_contents(database) == before
    assert not forget(database, Release(green, JANUARY))

    assert load(database, write_load_job(trips(30), tmp_path), silent).rows_loaded == 30


def test_partition_that_was_detached_by_hand_is_in_the_way_until_it_is_moved(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    load(database, write_load_job(trips(5), tmp_path), silent)
    partition = partitions(database)[0]
    execute(database, f"ALTER TABLE green_tripdata DETACH PARTITION {partition}")
    execute(database, f"CREATE SCHEMA {database.schema}_kept")

    again = write_load_job(trips(6), tmp_path, replace=True)
    message = (
        f'green/2019-01: relation "{partition}" is not a partition of relation "green_tripdata"; drop it or move it'
    )
    for attempt in (lambda: load(database, again, silent), lambda: forget(database, again.release)):
        with pytest.raises(PipelineError, match=message):
            attempt()
    execute(database, f"ALTER TABLE {partition} SET SCHEMA {database.schema}_kept")
    load(database, again, silent)

    assert row_count(database) == 6
    execute(database, f"DROP SCHEMA {database.schema}_kept CASCADE")


def test_zones_are_loaded_replaced_and_forgotten(database: PostgresDatabase, tmp_path: Path) -> None:
    zones = dataset_named("zones")
    file = write_zones(tmp_path)
    header, *lines = file.read_bytes().splitlines()

    entry = load(database, write_load_job(lines, tmp_path, None, dataset=zones, header=header), silent)

    assert (entry.partition_key, entry.rows_read, entry.rows_loaded) == ("zones", 265, 265)
    query = "SELECT locationid, zone FROM taxi_zone_lookup WHERE locationid = '7'"
    assert execute(database, query) == [("7", 'Sample zone "7"')]
    names = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'taxi_zone_lookup'::regclass AND attnum > 0"
    columns = [name for (name,) in execute(database, f"{names} ORDER BY attnum")]
    assert columns == ["locationid", "borough", "zone", "service_zone"]

    load(database, write_load_job(lines[:9], tmp_path, None, dataset=zones, header=header, replace=True), silent)
    assert row_count(database, "taxi_zone_lookup") == 9
    assert forget(database, Release(zones))
    assert row_count(database, "taxi_zone_lookup") == row_count(database, "load_ledger") == 0


def test_longest_table_name_that_a_spec_allows_can_be_loaded(database: PostgresDatabase, tmp_path: Path) -> None:
    """PostgreSQL silently truncates names to 63 bytes."""
    green = dataset_named("green")
    dataset = Dataset(**{**vars(green), "table": "t" * 45})

    for month in (JANUARY, FEBRUARY, datetime.date(2019, 3, 1)):
        load(database, write_load_job(trips(5, month), tmp_path, month, dataset=dataset), silent)

    assert row_count(database, dataset.table) == 15
    assert loading_tables(database) == []


def test_new_column_in_the_spec_is_added_to_the_existing_table(database: PostgresDatabase, tmp_path: Path) -> None:
    """Only the catalogue changes, wherever the column is in the spec: no row is rewritten and no marker is lost."""
    green = dataset_named("green")
    new = Column("tip_in_kind", "integer", "INT64", "New.", since=FEBRUARY)
    extended = replace(green, version=green.version + 1, columns=(*green.columns[:3], new, *green.columns[3:]))
    january = load(database, write_load_job(trips(30), tmp_path), silent)
    storage = "SELECT pg_relation_filenode('green_tripdata_2019_01')"
    before = execute(database, storage)

    lines = [line + b",7" for line in trips(20, FEBRUARY)]
    job = write_load_job(lines, tmp_path, FEBRUARY, dataset=extended, header=HEADER + b",tip_in_kind")
    assert load(database, job, silent).rows_loaded == 20

    assert execute(database, storage) == before
    query = "SELECT filename, tip_in_kind, count(*) FROM green_tripdata GROUP BY 1, 2 ORDER BY 1"
    assert execute(database, query) == [
        ("green_tripdata_2019-01.csv", None, 30),
        ("green_tripdata_2019-02.csv", 7, 20),
    ]
    comment = "SELECT col_description('green_tripdata'::regclass, attnum) FROM pg_attribute WHERE attrelid ="
    assert execute(database, f"{comment} 'green_tripdata'::regclass AND attname = 'tip_in_kind'") == [("New.",)]
    assert load(database, write_load_job(trips(30), tmp_path, dataset=extended), silent) == january
    assert load(database, write_load_job(trips(9), tmp_path, dataset=extended, replace=True), silent).rows_loaded == 9


def test_new_row_key_is_refused_while_the_table_has_ids_of_the_old_one(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    """Otherwise rows that are loaded again, or are in two files, would get other ids."""
    load(database, write_load_job(trips(30), tmp_path), silent)
    green = dataset_named("green")
    changed = replace(green, version=green.version + 1, row_key=(*green.row_key, "payment_type"))
    february = write_load_job(trips(20, FEBRUARY), tmp_path, FEBRUARY, dataset=changed)

    message = (
        r"green_tripdata: unique_row_id is the MD5 of vendorid, .*, and the row_key in .*green\.yaml is .*payment_type;"
    )
    with pytest.raises(PipelineError, match=message):
        load(database, february, silent)

    execute(database, "COMMENT ON COLUMN green_tripdata.unique_row_id IS NULL")  # as in tables of earlier versions
    assert load(database, write_load_job(trips(20, FEBRUARY), tmp_path, FEBRUARY), silent).rows_loaded == 20
    with pytest.raises(PipelineError, match=message):
        load(database, february, silent)


def test_new_column_in_the_spec_is_added_to_a_lookup_table(database: PostgresDatabase, tmp_path: Path) -> None:
    zones = dataset_named("zones")
    header, *lines = write_zones(tmp_path).read_bytes().splitlines()
    load(database, write_load_job(lines, tmp_path, None, dataset=zones, header=header), silent)
    columns = (*zones.columns, Column("area", "double precision", "NUMERIC", "New."))
    extended = replace(zones, version=zones.version + 1, columns=columns)

    job = write_load_job(
        [line + b",1.5" for line in lines], tmp_path, None, dataset=extended, header=header + b",area", replace=True
    )
    load(database, job, silent)

    assert execute(database, "SELECT DISTINCT area FROM taxi_zone_lookup") == [(1.5,)]


def test_ledger_of_an_earlier_version_is_read_and_gets_the_new_columns(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    january = load(database, write_load_job(trips(3), tmp_path), silent)
    new = ("source", "format", "etag", "last_modified", "run_id")
    execute(database, "ALTER TABLE load_ledger " + ", ".join(f"DROP COLUMN {name}" for name in new))

    assert load(database, write_load_job(trips(3), tmp_path), silent) == replace(january, format="", run_id="")
    extracted = ExtractedFile(source="mirror", etag='"abc"', last_modified="Thu, 17 Sep 2026")
    job = replace(write_load_job(trips(3, FEBRUARY), tmp_path, FEBRUARY), extracted=extracted)
    entry = load(database, job, silent)

    assert (entry.source, entry.format, entry.etag, entry.last_modified) == (
        "mirror",
        "csv",
        extracted.etag,
        extracted.last_modified,
    )
    assert execute(database, "SELECT source, format FROM load_ledger ORDER BY partition_key") == [
        ("", ""),
        ("mirror", "csv"),
    ]
