"""Rows whose id already exists: none is loaded twice, and none is lost, because the quarantine keeps the whole row."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from conftest import JANUARY, execute
from row_ids import count_rows_with_other_ids
from trips import FEBRUARY, HEADER, row_count, schema_contents, trip, trips, write_load_job

from pipeline.datasets import Column, Dataset, dataset_named
from pipeline.progress import silent
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

NO_PICKUP = {"lpep_pickup_datetime": ""}
FILENAMES = {JANUARY: "green_tripdata_2019-01.csv", FEBRUARY: "green_tripdata_2019-02.csv"}


def quarantined(database: PostgresDatabase) -> Counter[tuple[str, str]]:
    query = "SELECT reason, filename FROM load_quarantine"
    return Counter((reason, filename) for reason, filename in execute(database, query))


def test_repeated_rows_of_a_file_are_quarantined_with_all_values(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = [*trips(10), trip(3), trip(5), trip(3), trip(3, vendorid="", passenger_count=""), trip(3)]

    entry = load(database, write_load_job(lines, tmp_path), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (15, 11, 4, 0)
    assert row_count(database) == 11
    assert quarantined(database) == {("duplicate_in_file", FILENAMES[JANUARY]): 4}
    # The loaded and the quarantined rows together are the rows of the file, with all their values.
    both = """
        SELECT to_jsonb(green_tripdata) FROM green_tripdata WHERE extract(minute FROM lpep_pickup_datetime) IN (3, 5)
        UNION ALL SELECT row_values FROM load_quarantine"""
    rows = [row for (row,) in execute(database, both)]
    assert sorted(row["lpep_pickup_datetime"][-2:] for row in rows) == ["00"] * 7
    assert all(len(row) == 24 and row["filename"] == FILENAMES[JANUARY] and row["fare_amount"] == 8 for row in rows)
    assert execute(
        database, "SELECT bool_and(row_values ->> 'unique_row_id' = unique_row_id) FROM load_quarantine"
    ) == [(True,)]


def test_different_rows_with_the_same_key_are_all_loaded_with_different_ids(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    """The last row in the order of their text keeps the plain id, regardless of the order of the rows in the file."""
    key = "22019-01-01 00:05:002019-01-01 00:14:00414280.79"
    plain, second, third = (hashlib.md5((key + place).encode()).hexdigest() for place in ("", "#2", "#3"))
    same_key = [trip(5, tip_amount=tip) for tip in ("-3", "10", "9", "9")]
    expected = [(9.0, plain), (10.0, second), (-3.0, third)]  # as texts: -3 < 10 < 9
    for lines in (same_key, same_key[::-1], same_key[1:] + same_key[:1]):
        entry = load(database, write_load_job([*trips(4), *lines], tmp_path, replace=True), silent)

        assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate) == (8, 7, 1)
        rows = (
            "SELECT tip_amount, unique_row_id FROM green_tripdata WHERE extract(minute FROM lpep_pickup_datetime) = 5"
        )
        assert sorted(execute(database, rows), key=expected.index) == expected
        assert quarantined(database) == {("duplicate_in_file", FILENAMES[JANUARY]): 1}
    assert count_rows_with_other_ids(database, dataset_named("green")) == 2


def test_rows_that_differ_only_in_a_null_are_all_loaded(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = [trip(5, ehail_fee=""), trip(5, ehail_fee="0"), trip(5, store_and_fwd_flag=""), trip(5, trip_type="")]

    entry = load(database, write_load_job(lines, tmp_path), silent)

    assert (entry.rows_loaded, entry.rows_duplicate) == (4, 0)
    assert execute(database, "SELECT count(DISTINCT unique_row_id) FROM green_tripdata") == [(4,)]


def test_columns_may_be_called_like_what_the_statements_call_rows(
    database: PostgresDatabase, tmp_path: Path, green: Dataset
) -> None:
    names = ("loading", "moved", "place", "copy")
    columns = (*green.columns, *(Column(name, "text", "STRING", "A text.") for name in names))
    lines = [trip(5, tip_amount=tip) + b",a,b,c,d" for tip in ("1", "1", "2")]
    header = HEADER + b"," + ",".join(names).encode()

    entry = load(
        database, write_load_job(lines, tmp_path, dataset=replace(green, columns=columns), header=header), silent
    )

    assert (entry.rows_loaded, entry.rows_duplicate) == (2, 1)
    quarantined = "SELECT row_values ->> 'tip_amount', row_values ->> 'loading' FROM load_quarantine"
    assert execute(database, quarantined) == [("1", "a")]


def test_vendor_counts_as_blank_in_the_key_where_the_spec_declares_it(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    """TLC's Parquet files have a vendor where the CSV files have none. The column keeps the value of the file."""
    lines = [trip(5, vendorid="2", passenger_count=""), trip(6, vendorid="", passenger_count="")]

    load(database, write_load_job(lines, tmp_path), silent)

    texts = [f"2019-01-01 00:0{n}:002019-01-01 00:{n + 9}:00414280.79" for n in (5, 6)]
    rows = execute(database, "SELECT vendorid, unique_row_id FROM green_tripdata ORDER BY lpep_pickup_datetime")
    assert rows == list(zip(["2", None], (hashlib.md5(text.encode()).hexdigest() for text in texts), strict=True))


def test_rows_with_numbered_ids_are_quarantined_if_another_file_has_them(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    pair = [trip(7, FEBRUARY, tip_amount="1"), trip(7, FEBRUARY, tip_amount="2")]
    load(database, write_load_job([*trips(5), *pair], tmp_path), silent)

    entry = load(database, write_load_job([*trips(5, FEBRUARY), *pair], tmp_path, FEBRUARY), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate) == (7, 5, 2)
    assert quarantined(database) == {("duplicate_of_other_file", FILENAMES[FEBRUARY]): 2}


ROWS_IN_BOTH_FILES = {
    "a pickup in the other month": (trip(7, FEBRUARY), trip(7, FEBRUARY)),
    "no pickup": (trip(7, **NO_PICKUP), trip(7, **NO_PICKUP)),
    # Values are joined without separators, so a pickup without a drop-off reads like a drop-off without a pickup.
    "a drop-off that equals the other row's pickup": (
        trip(7, lpep_pickup_datetime="", lpep_dropoff_datetime="2019-02-03 04:05:06"),
        trip(7, lpep_pickup_datetime="2019-02-03 04:05:06", lpep_dropoff_datetime=""),
    ),
}


@pytest.mark.parametrize("repeated", ROWS_IN_BOTH_FILES.values(), ids=ROWS_IN_BOTH_FILES.keys())
@pytest.mark.parametrize("order", [(JANUARY, FEBRUARY), (FEBRUARY, JANUARY)], ids=["in order", "in reverse order"])
def test_row_that_another_file_already_has_is_quarantined(
    database: PostgresDatabase,
    tmp_path: Path,
    green: Dataset,
    repeated: tuple[bytes, bytes],
    order: tuple[datetime.date, datetime.date],
) -> None:
    lines = {JANUARY: [*trips(5), repeated[0]], FEBRUARY: [*trips(5, FEBRUARY), repeated[1]]}

    first, second = (load(database, write_load_job(lines[month], tmp_path, month), silent) for month in order)

    assert (first.rows_loaded, first.rows_duplicate) == (6, 0)
    assert (second.rows_loaded, second.rows_duplicate) == (5, 1)
    assert quarantined(database) == {("duplicate_of_other_file", FILENAMES[order[1]]): 1}
    [(detail, row)] = execute(database, "SELECT detail, row_values FROM load_quarantine")
    assert FILENAMES[order[0]] in detail
    assert (row["filename"], len(row)) == (FILENAMES[order[1]], 24)
    assert execute(database, "SELECT count(DISTINCT unique_row_id), count(*) FROM green_tripdata") == [(11, 11)]
    assert count_rows_with_other_ids(database, green) == 0


def test_row_repeated_in_its_file_and_in_another_is_quarantined_for_both_reasons(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    load(database, write_load_job([*trips(5), trip(7, FEBRUARY)], tmp_path), silent)

    entry = load(database, write_load_job([trip(7, FEBRUARY)] * 3, tmp_path, FEBRUARY), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate) == (3, 0, 3)
    assert quarantined(database) == {
        ("duplicate_in_file", FILENAMES[FEBRUARY]): 2,
        ("duplicate_of_other_file", FILENAMES[FEBRUARY]): 1,
    }


def test_loading_a_file_with_duplicates_again_changes_nothing(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = [*trips(5), trip(3), trip(7, FEBRUARY)]
    load(database, write_load_job([trip(7, FEBRUARY)], tmp_path, FEBRUARY), silent)
    load(database, write_load_job(lines, tmp_path), silent)
    before = schema_contents(database)

    load(database, write_load_job(lines, tmp_path), silent)
    assert schema_contents(database) == before

    load(database, write_load_job(lines, tmp_path, replace=True), silent)
    after = schema_contents(database)
    assert (after["relations"], after["green_tripdata"]) == (before["relations"], before["green_tripdata"])
    assert len(after["load_quarantine"]) == 2


def test_bad_rows_and_duplicates_of_one_file_are_counted_separately(database: PostgresDatabase, tmp_path: Path) -> None:
    entry = load(database, write_load_job([*trips(9), b"", trip(1), b"x"], tmp_path, max_bad_rows=2), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (12, 9, 1, 2)
    assert quarantined(database) == {("malformed", FILENAMES[JANUARY]): 2, ("duplicate_in_file", FILENAMES[JANUARY]): 1}


def test_replacement_of_a_month_is_atomic_for_readers(database: PostgresDatabase, tmp_path: Path) -> None:
    load(database, write_load_job(trips(40), tmp_path), silent)
    seen: Counter[int] = Counter()
    done = threading.Event()

    def read() -> None:
        with contextlib.closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not done.is_set():
                cursor.execute(f"SELECT count(*) FROM {database.schema}.green_tripdata")
                seen.update(cursor.fetchone())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in range(6):
            load(database, write_load_job(trips(41 + version), tmp_path, replace=True), silent)
    finally:
        done.set()
        reader.join()

    assert set(seen) <= set(range(40, 47)), "a reader saw the month absent, twice or in part"
    assert len(seen) > 2, "the reader was too slow to see anything"
