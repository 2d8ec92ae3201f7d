"""The generator of sample releases: reproducible files, laid out like the release site, that can be loaded."""

from __future__ import annotations

import datetime
import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import JANUARY, execute, job_for

from pipeline.datasets import Release, all_datasets, dataset_named, monthly_names
from pipeline.progress import silent
from pipeline.sample import write_month, write_zones
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load


@pytest.mark.parametrize("taxi", monthly_names())
def test_same_arguments_give_the_same_bytes(tmp_path: Path, taxi: str) -> None:
    dataset = dataset_named(taxi)
    first = write_month(dataset, JANUARY, 300, tmp_path / "first").read_bytes()

    # In another process, so that neither the hash seed nor earlier calls have an influence.
    options = ["--taxi", taxi, "--month", "2019-01", "--rows", "300"]
    command = [sys.executable, "-m", "pipeline.sample", *options, str(tmp_path / "second")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    file = tmp_path / "second" / Release(dataset, JANUARY).path_in(Release(dataset, JANUARY).source_named())
    assert file.read_bytes() == first
    assert (tmp_path / "second" / "misc" / "taxi_zone_lookup.csv").read_bytes() == write_zones(tmp_path).read_bytes()
    assert [line.split(":")[0] for line in shown.splitlines()] == ["generated, not real"] * 2

    assert write_month(dataset, JANUARY, 301, tmp_path / "more").read_bytes() != first
    assert write_month(dataset, datetime.date(2019, 2, 1), 300, tmp_path / "later").read_bytes() != first


@pytest.mark.parametrize("taxi", monthly_names())
def test_generated_month_is_loaded_without_quarantined_rows(
    tmp_path: Path, database: PostgresDatabase, taxi: str
) -> None:
    dataset = dataset_named(taxi)
    write_month(dataset, JANUARY, 5000, tmp_path / "mirror")

    entry = load(database, job_for(dataset, tmp_path / "mirror", tmp_path), silent)
    assert (entry.rows_read, entry.rows_loaded) == (5000, 5000)


def test_generated_month_has_the_irregularities_of_real_months(tmp_path: Path, database: PostgresDatabase) -> None:
    dataset = dataset_named("green")
    packed = write_month(dataset, JANUARY, 1000, tmp_path / "mirror").read_bytes()
    assert gzip.decompress(packed).count(b"\r\n") == 1001

    load(database, job_for(dataset, tmp_path / "mirror", tmp_path), silent)
    blank, strays = "vendorid IS NULL", "date_trunc('month', lpep_pickup_datetime) <> '2019-01-01'"
    query = f"SELECT count(*) FILTER (WHERE {blank}), count(*) FILTER (WHERE {strays}) FROM green_tripdata"
    [(blanks, out_of_month)] = execute(database, query)
    assert 150 < blanks < 350
    assert 1 <= out_of_month <= 4


def test_generated_zones_include_every_location_id_of_trips(tmp_path: Path, database: PostgresDatabase) -> None:
    write_zones(tmp_path / "mirror")
    load(database, job_for(all_datasets()["zones"], tmp_path / "mirror", tmp_path, month=None), silent)

    query = "SELECT count(*), min(locationid::int), max(locationid::int) FROM taxi_zone_lookup"
    assert execute(database, query) == [(265, 1, 265)]


def test_invalid_month_is_reported_like_other_invalid_options(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.sample", "--month", "2019-13", str(tmp_path)]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "'2019-13' is not a month such as 2019-01" in failed.stderr
