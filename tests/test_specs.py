"""Datasets are declared in YAML: what a file must contain, how mistakes are reported, and that a file is enough."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfoNotFoundError

import pytest
from conftest import execute, run_copy, settings

import pipeline.datasets.cron
from pipeline.datasets import Dataset, Release, Schedule, all_datasets, dataset_named, monthly_names
from pipeline.datasets.spec_reader import read_spec
from pipeline.errors import PipelineError
from pipeline.sample import write_month
from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("LoadTripdata", "--taxi", "limousines", "--month", "2021-01")
VALID = """\
name: tricycles
title: Tricycle trips
version: 1
table: tricycle_trips
path: tricycles/tricycle_trips_{month}.csv.gz
first_month: 2021-01
event_time: Started
row_key: [Bell, Started]
columns:
  - {name: Bell, postgres: text, bigquery: STRING, description: The bell's number.}
  - {name: Started, postgres: timestamp, bigquery: TIMESTAMP, description: When it began.}
"""
TWO_SOURCES = VALID.replace(
    "path: tricycles/tricycle_trips_{month}.csv.gz\nfirst_month: 2021-01\n",
    "sources:\n"
    "  - {name: mirror, format: csv, path: 'x/tricycle_trips_{month}.csv', first_month: 2021-01}\n"
    "  - {name: tlc, format: parquet, path: 'tricycle_trips_{month}.parquet', first_month: 2014-01}\n",
)
NEW_DATASET = """\
name: limousines
title: Limousine trips
version: 1
table: limousine_tripdata
path: limousines/limousine_tripdata_{month}.csv.gz
first_month: 2019-02
event_time: pickup_datetime
row_key: [hvfhs_license_num, dispatching_base_num, pickup_datetime, dropoff_datetime,
          PULocationID, DOLocationID, SR_Flag]
columns:
  - {name: hvfhs_license_num, postgres: text, bigquery: STRING, description: The company's licence.}
  - {name: dispatching_base_num, postgres: text, bigquery: STRING, description: The base's licence.}
  - {name: pickup_datetime, postgres: timestamp, bigquery: TIMESTAMP, description: When the trip began.}
  - {name: dropoff_datetime, postgres: timestamp, bigquery: TIMESTAMP, description: When the trip ended.}
  - {name: PULocationID, postgres: text, bigquery: STRING, description: Where it began.}
  - {name: DOLocationID, postgres: text, bigquery: STRING, description: Where it ended.}
  - {name: SR_Flag, postgres: text, bigquery: STRING, description: Whether it was shared.}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the shipped datasets' folder, which the package reads instead of its own."""
    copy = tmp_path / "datasets"
    shutil.copytree(pipeline.datasets.FOLDER, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(pipeline.datasets, "FOLDER", copy)
    all_datasets.cache_clear()
    yield copy
    all_datasets.cache_clear()


def read(tmp_path: Path, text: str | bytes) -> Dataset:
    file = tmp_path / "tricycles.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_spec(file)


def test_alias_need_not_be_a_column_name(tmp_path: Path) -> None:
    dataset = read(tmp_path, VALID.replace("name: Bell,", "name: Bell, aliases: [bell no.],"))
    assert dataset.columns[0].aliases == ("bell no.",)


def test_valid_file_declares_everything_about_a_dataset(tmp_path: Path) -> None:
    dataset = read(tmp_path, VALID)
    may = datetime.date(2021, 5, 1)

    assert dataset.column_names == ("bell", "started")
    assert (dataset.row_key, dataset.event_time) == (("bell", "started"), "started")
    assert Release(dataset, may).path_in(dataset.sources[0]) == "tricycles/tricycle_trips_2021-05.csv.gz"
    assert Release(dataset, may).filename == "tricycle_trips_2021-05.csv"
    assert Release(dataset, may).key == "tricycles/2021-05"
    assert dataset.published_months() == "2021-01 onwards"


def test_files_in_a_folder_for_each_month_are_called_by_their_month(tmp_path: Path) -> None:
    dataset = read(tmp_path, VALID.replace("tricycles/tricycle_trips_{month}.csv.gz", "tricycles/{month}/trips.csv.gz"))
    may = Release(dataset, datetime.date(2021, 5, 1))

    assert may.path_in(dataset.sources[0]) == "tricycles/2021-05/trips.csv.gz"
    assert may.filename == "trips_2021-05.csv"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("title:", "titel:", 2, "unknown key 'titel'; known keys: columns, event_time"),
        ("title: Tricycle trips\n", "", 1, "missing key title"),
        ("version: 1", "version: one", 3, "'one' is not a whole number from 1 on"),
        ("version: 1", "version: 0", 3, "'0' is not a whole number from 1 on"),
        ("version: 1", "version: 1\nversion: 2", 4, "key 'version' is given twice"),
        ("name: tricycles", "name: bicycles", 1, "the name 'bicycles' must be the file's own name, 'tricycles'"),
        ("table: tricycle_trips", "table: Tricycle-Trips", 4, "'Tricycle-Trips' is not a table name"),
        ("table: tricycle_trips", "table: " + "t" * 43, 4, "is not a table name of at most 42"),
        (
            "table: tricycle_trips",
            "table: load_ledger",
            4,
            "the table load_ledger already belongs to the pipeline itself",
        ),
        (".csv.gz", ".parquet", 5, "the path must end in .csv or .csv.gz"),
        ("{month}", "{mnth}", 5, "the path has no {month}"),
        ("2021-01", "January", 6, "'January' is not a month such as 2019-01"),
        ("first_month: 2021-01\n", "", 1, "a dataset with {month} in its path also needs first_month"),
        ("event_time: Started", "event_time: Bell", 7, "event_time must name a timestamp column"),
        ("[Bell, Started]", "[Bell]", 7, "that is part of row_key"),
        ("[Bell, Started]", "[Bell, Started, Horn]", 8, "row_key names 'Horn', which is not a column"),
        ("[Bell, Started]", "[Bell, Started, bell]", 8, "row_key names 'bell' twice"),
        ("[Bell, Started]", "Bell", 8, "expected a list with at least one entry"),
        ("[Bell, Started]", "[]", 8, "expected a list with at least one entry"),
        ("postgres: text", "postgres: varchar", 10, "'varchar' is not one of text, integer"),
        ("bigquery: TIMESTAMP", "bigquery: DATETIME", 11, "'DATETIME' is not one of STRING, INT64"),
        ("bigquery: STRING, ", "", 10, "missing key bigquery"),
        ("description: The bell's number.", "description: ''", 10, "expected a text"),
        ("name: Started", "name: BELL", 11, "column 'bell' is taken"),
        ("name: Bell", "name: FileName", 10, "column 'filename' is taken"),
        ("name: Bell", "name: no-name", 10, "'no-name' is not a column name"),
        ("title: Tricycle trips", "title: [Tricycle", 3, "not valid YAML"),
        ("title: Tricycle trips", "title: Tricycle\0trips", 2, "not valid YAML"),
        ("version: 1\n", "version: 1\nschedule: {cron: 0 9 1 * *}\n", 4, "missing key timezone"),
        (
            "version: 1\n",
            "version: 1\nschedule:\n  cron: 0 25 1 * *\n  timezone: UTC\n",
            5,
            "'0 25 1 * *': bad hour; a cron expression has minute (0-59), hour (0-23)",
        ),
        (
            "version: 1\n",
            "version: 1\nschedule:\n  cron: 0 9 1 * *\n  timezone: America/New_Yorkk\n",
            6,
            "'America/New_Yorkk' is not a time zone such as America/New_York",
        ),
    ],
)
def test_mistake_is_reported_with_its_file_and_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    assert VALID.count(old) >= 1
    with pytest.raises(PipelineError) as raised:
        read(tmp_path, VALID.replace(old, new, 1))

    assert str(raised.value).startswith(f"{tmp_path}/tricycles.yaml, line {line}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("name: tlc", "name: mirror", 7, "there are two sources called mirror"),
        ("'tricycle_trips_{month}.parquet'", "'trips_{month}.parquet'", 7, "must be called tricycle_trips_{month}"),
        ("'tricycle_trips_{month}.parquet'", "'tricycle_trips_{month}.csv'", 7, "the path must end in .parquet"),
        ("sources:", "last_month: 2021-07\nsources:", 5, "'last_month' must be a key of a source"),
        ("columns:", "key_blanks: {Horn: Bell}\ncolumns:", 10, "'horn', which is not part of row_key"),
        ("columns:", "key_blanks: {Bell: Horn}\ncolumns:", 10, "'horn', which is not a column"),
        ("columns:", "month_share: 1.5\ncolumns:", 10, "'1.5' is not a share from 0 to 1"),
        ("text, bigquery: STRING", "numeric, bigquery: NUMERIC", 11, "numeric is not read from Parquet files"),
        ("postgres: timestamp,", "postgres: timestamp, whole: true,", 12, "whole is for text, integer and bigint"),
        ("postgres: text,", "postgres: text, since: 2025-01, until: 2024-12,", 11, "until is before since"),
        ("postgres: text,", "postgres: text, aliases: [started],", 12, "column 'started' is taken"),
        ("postgres: text,", "postgres: text, sources: [s3],", 11, "'s3' is not one of mirror, tlc"),
    ],
)
def test_mistake_in_sources_and_columns_is_reported_with_its_file_and_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    read(tmp_path, TWO_SOURCES)
    with pytest.raises(PipelineError) as raised:
        read(tmp_path, TWO_SOURCES.replace(old, new, 1))

    assert str(raised.value).startswith(f"{tmp_path}/tricycles.yaml, line {line}: ")
    assert message in str(raised.value)


def test_time_zone_is_not_checked_on_a_machine_without_time_zones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_zone(name: str) -> NoReturn:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(pipeline.datasets.cron, "ZoneInfo", no_zone)
    monkeypatch.setattr(pipeline.datasets.cron, "available_timezones", set)
    schedule = "schedule: {cron: 0 9 1 * *, timezone: America/New_York}\n"
    assert read(tmp_path, VALID + schedule).schedule == Schedule("0 9 1 * *", "America/New_York")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a\n- b\n", "expected a mapping of keys to values"),
        (b"name: caf\xe9\n", "not valid YAML"),
    ],
)
def test_file_that_is_not_a_dataset_is_reported(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(PipelineError, match=f"tricycles.yaml, line 1: {message}"):
        read(tmp_path, text)


def test_two_datasets_cannot_share_a_table(folder: Path) -> None:
    (folder / "tricycles.yaml").write_text(VALID.replace("tricycle_trips\n", "green_tripdata\n"))
    with pytest.raises(
        PipelineError, match=r"tricycles.yaml, line 4: the table green_tripdata already belongs to the dataset green"
    ):
        all_datasets()


def test_new_file_adds_a_dataset(folder: Path) -> None:
    (folder / "tricycles.yaml").write_text(VALID)

    assert monthly_names() == ["fhv", "fhvhv", "green", "tricycles", "yellow"]
    assert dataset_named("tricycles").title == "Tricycle trips"
    with pytest.raises(
        PipelineError, match="there is no dataset 'bicycles'; there are: fhv, fhvhv, green, tricycles, yellow, zones"
    ):
        dataset_named("bicycles")


def test_new_dataset_can_be_loaded_once_its_file_exists(
    checkout: Path, tmp_path: Path, database: PostgresDatabase
) -> None:
    (checkout / "pipeline" / "datasets" / "limousines.yaml").write_text(NEW_DATASET)
    mirror = tmp_path / "mirror"
    write_month(
        read_spec(checkout / "pipeline" / "datasets" / "limousines.yaml"), datetime.date(2021, 1, 1), 300, mirror
    )

    loaded = run_copy(checkout, *LOAD, **settings(tmp_path, database, mirror))
    assert loaded.returncode == 0, loaded.stderr
    dataset = read_spec(checkout / "pipeline" / "datasets" / "limousines.yaml")
    ids = f"bool_and(unique_row_id = md5(concat({', '.join(dataset.row_key)})))"
    counted = f"SELECT count(*), count(DISTINCT unique_row_id), {ids} FROM limousine_tripdata"
    assert execute(database, counted) == [(300, 300, True)]
    assert execute(database, "SELECT partition_key, rows_loaded FROM load_ledger") == [("limousines/2021-01", 300)]


@pytest.mark.parametrize("is_range", [False, True])
def test_new_table_name_is_refused_while_the_old_table_has_the_month(
    checkout: Path, tmp_path: Path, database: PostgresDatabase, is_range: bool
) -> None:
    spec = checkout / "pipeline" / "datasets" / "limousines.yaml"
    spec.write_text(NEW_DATASET)
    write_month(read_spec(spec), datetime.date(2021, 1, 1), 30, tmp_path / "mirror")
    environment = settings(tmp_path, database, tmp_path / "mirror")
    assert run_copy(checkout, *LOAD, **environment).returncode == 0
    spec.write_text(NEW_DATASET.replace("table: limousine_tripdata", "table: limo_tripdata"))
    months = ("--start", "2021-01", "--stop", "2021-02")
    of_load = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi":"limousines"}', *months)

    refused = run_copy(checkout, *(of_load if is_range else LOAD), **environment)

    assert refused.returncode == 35
    assert "limousines/2021-01 is in the table limousine_tripdata, and pipeline/datasets/limou" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert execute(database, "SELECT target_table, rows_loaded FROM load_ledger") == [("limousine_tripdata", 30)]


def test_mistake_in_a_file_ends_a_command_with_one_line(
    checkout: Path, tmp_path: Path, database: PostgresDatabase
) -> None:
    file = checkout / "pipeline" / "datasets" / "limousines.yaml"
    file.write_text(NEW_DATASET.replace("version", "versoin"))

    failed = run_copy(checkout, *LOAD, **settings(tmp_path, database, tmp_path))
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"pipeline: {file}, line 3: unknown key 'versoin'")
    assert failed.stderr.count("\n") == 1
