"""Sample green trips, release files that contain them, and queries on what a schema holds after a load."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conftest import JANUARY, execute

from pipeline.datasets import Dataset, Release, dataset_named
from pipeline.extract import ExtractedFile
from pipeline.warehouses import LoadJob
from pipeline.warehouses.postgres.connection import PostgresDatabase

RUN_ID = "test"
FEBRUARY = datetime.date(2019, 2, 1)
COLUMNS = dataset_named("green").columns_of(JANUARY, Release(dataset_named("green"), JANUARY).source_named("mirror"))
HEADER = ",".join(column.source_name for column in COLUMNS).encode()
_TRIP = {
    "vendorid": "2",
    "store_and_fwd_flag": "N",
    "ratecodeid": "1",
    "pulocationid": "41",
    "dolocationid": "42",
    "passenger_count": "1",
    "trip_distance": ".79",
    "fare_amount": "8",
    "extra": "0.5",
    "mta_tax": "0.5",
    "tip_amount": "0",
    "tolls_amount": "0",
    "ehail_fee": "",
    "improvement_surcharge": "0.3",
    "total_amount": "9.3",
    "payment_type": "1",
    "trip_type": "1",
    "congestion_surcharge": "0",
}
# Values in an unexpected format, most of which PostgreSQL would accept. A row that contains one is malformed.
UNEXPECTED_FORMATS = {
    "now": {"lpep_pickup_datetime": "now"},
    "today": {"lpep_pickup_datetime": "today"},
    "infinity": {"lpep_dropoff_datetime": "infinity"},
    "a semicolon": {"lpep_dropoff_datetime": "2019-01-01 17:37:2;"},
    "a second of one digit": {"lpep_dropoff_datetime": "2019-01-01 17:37:2"},
    "a year of three digits": {"lpep_pickup_datetime": "020-04-02 00:00:00"},
    "a year of five digits": {"lpep_pickup_datetime": "22019-04-02 00:00:00"},
    "no time": {"lpep_pickup_datetime": "2019-01-01"},
    "hour 24": {"lpep_pickup_datetime": "2019-01-01 24:00:00"},
    "second 60": {"lpep_pickup_datetime": "2019-01-01 23:59:60"},
    "a time zone": {"lpep_pickup_datetime": "2019-01-01 00:00:00-05"},
    "the name of a time zone": {"lpep_pickup_datetime": "2019-01-01 00:00:00 EST"},
    "the month first": {"lpep_pickup_datetime": "01/02/2019 00:00:00"},
    "underscores": {"passenger_count": "1_000"},
    "a hexadecimal number": {"passenger_count": "0x10"},
    "a blank before a number": {"passenger_count": " 1"},
    "a whole double in an integer": {"payment_type": "2.0"},
    "not a number": {"fare_amount": "NaN"},
    "infinite": {"tip_amount": "-Infinity"},
    "too large for sums": {"tip_amount": "1.79e308"},
    "a vendor that is not a number": {"vendorid": "CMT"},
    "a zone number that is text": {"pulocationid": "Astoria"},
    "the last year that PostgreSQL supports": {"lpep_pickup_datetime": "294276-01-01 00:00:00"},
    "a fractional zone number": {"pulocationid": "41.5"},
}


def trip(number: int, month: datetime.date = JANUARY, **values: str) -> bytes:
    """Returns the CSV line of a month's `number`th trip with the given values; each number has a different row id."""
    pickup = datetime.datetime.combine(month, datetime.time()) + datetime.timedelta(minutes=number)
    times = {"lpep_pickup_datetime": str(pickup), "lpep_dropoff_datetime": str(pickup + datetime.timedelta(minutes=9))}
    row = _TRIP | times | values
    return ",".join(row[column.name] for column in COLUMNS).encode()


def trips(row_count: int, month: datetime.date = JANUARY) -> list[bytes]:
    return [trip(number, month) for number in range(row_count)]


def write_load_job(
    lines: Iterable[bytes],
    folder: Path,
    month: datetime.date | None = JANUARY,
    *,
    dataset: Dataset | None = None,
    header: bytes = HEADER,
    end: bytes = b"\r\n",
    **options: Any,
) -> LoadJob:
    """Writes a file of these lines to `folder`, over an existing one, and returns the job that loads it."""
    dataset = dataset or dataset_named("green")
    file = folder / Release(dataset, month).filename
    file.write_bytes(b"".join(line + end for line in (header, *lines)))
    extracted = ExtractedFile(source_url=file.as_uri())
    return LoadJob("LoadTripdata", Release(dataset, month), RUN_ID, file=file, extracted=extracted, **options)


def quote_all(line: bytes) -> bytes:
    """Returns a line of CSV with quotes around all fields, also around blanks."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(next(csv.reader([line.decode()])))
    return text.getvalue().encode()


def schema_contents(database: PostgresDatabase) -> dict[str, list[tuple[Any, ...]]]:
    """Returns all that a schema holds for green: tables and indexes, markers, quarantined rows and trips."""
    relations = "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace ORDER BY 1"
    return {
        "relations": execute(database, relations),
        "load_ledger": execute(database, "SELECT * FROM load_ledger ORDER BY target_table, partition_key"),
        "load_quarantine": execute(database, "SELECT load_quarantine::text FROM load_quarantine ORDER BY 1"),
        "green_tripdata": execute(database, "SELECT green_tripdata::text FROM green_tripdata ORDER BY 1"),
    }


def row_count(database: PostgresDatabase, table: str = "green_tripdata") -> int:
    return int(execute(database, f"SELECT count(*) FROM {table}")[0][0])


def partitions(database: PostgresDatabase) -> list[str]:
    query = "SELECT relid::regclass::text FROM pg_partition_tree('green_tripdata') WHERE level = 1 ORDER BY 1"
    return [name for (name,) in execute(database, query)]


def loading_tables(database: PostgresDatabase) -> list[str]:
    """Returns the tables that running or killed loads have created and not yet attached."""
    query = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE '%%loading'"
    return [name for (name,) in execute(database, query)]
