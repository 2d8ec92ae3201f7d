"""What emulators cannot prove, in a real project: `TLC_GCP_PROJECT=my-project pytest -m gcp`.

Works in a bucket and datasets of its own, which it removes, with the credentials of the environment.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import JANUARY, Run
from gcp import GoogleCloud
from gcp_trips import forget_month, load_lines, load_uploaded, set_aside, trips_in, upload_lines
from test_gcp_statements import EDGES, texts_in_postgres, texts_query
from trips import FEBRUARY, trip, trips

from pipeline.datasets import Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.sample import write_month
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.file_rows import FileRows
from pipeline.warehouses.bigquery.jobs import query_config
from pipeline.warehouses.bigquery.resources import create_resources, missing_resources
from pipeline.warehouses.bigquery.sql_text import statement
from pipeline.warehouses.postgres.connection import PostgresDatabase

pytestmark = pytest.mark.gcp


@pytest.fixture(scope="module")
def project() -> Iterator[GoogleCloud]:
    """A bucket and datasets in the real project, until the module's tests are over."""
    if "TLC_GCP_PROJECT" not in os.environ:
        pytest.skip("TLC_GCP_PROJECT is not set: no Google Cloud project to work in")
    name, location = f"tlc_test_{uuid.uuid4().hex[:12]}", os.environ.get("TLC_GCP_LOCATION", "US")
    place = GoogleProject(os.environ["TLC_GCP_PROJECT"], location, name.replace("_", "-"), name, 10**9)
    create_resources(place)
    try:
        yield GoogleCloud(None, place)
    finally:
        with contextlib.closing(place.storage()) as storage, contextlib.closing(place.bigquery()) as bigquery:
            storage.get_bucket(place.bucket).delete(force=True)
            for dataset in (place.dataset, place.staging_dataset):
                bigquery.delete_dataset(dataset, delete_contents=True)


@pytest.fixture
def here(project: GoogleCloud, monkeypatch: pytest.MonkeyPatch) -> GoogleCloud:
    """The project, where the pipeline's commands work as well."""
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    return project


def test_resources_are_there_and_closed(here: GoogleCloud) -> None:
    assert missing_resources(here.place) == []
    with contextlib.closing(here.place.storage()) as client:
        bucket = client.get_bucket(here.place.bucket)
    assert bucket.iam_configuration.uniform_bucket_level_access_enabled
    assert bucket.iam_configuration.public_access_prevention == "enforced"


def test_text_of_a_value_is_that_of_postgres(here: GoogleCloud, database: PostgresDatabase) -> None:
    assert dict(zip(EDGES, here.rows(texts_query())[0], strict=True)) == texts_in_postgres(database)


def test_month_is_loaded_forced_compared_and_forgotten(
    here: GoogleCloud, luigi: Run, pipeline: Run, mirror: Path
) -> None:
    month = ("--taxi", "green", "--month", "2019-01")
    for rows, force in ((500, []), (400, ["--force"])):
        write_month(dataset_named("green"), JANUARY, rows, mirror)
        for task in ("LoadTripdata", "LoadTripdataToBigQuery"):
            done = luigi(task, *month, *force)
            assert done.returncode == 0, done.stderr
        compared = luigi("ReconcileTripdata", *month)
        assert compared.returncode == 0, compared.stderr
        assert f"the same {rows} rows in PostgreSQL and BigQuery" in compared.stderr

    assert pipeline("forget", *month).returncode == 0
    assert (trips_in(here), here.objects()) == ([], [])


def test_rows_of_all_kinds_are_accounted_for(here: GoogleCloud, tmp_path: Path) -> None:
    odd = [
        trip(0, store_and_fwd_flag='"a, b"', vendorid=""),
        trip(1, lpep_pickup_datetime="", congestion_surcharge=""),
        trip(2, JANUARY, lpep_pickup_datetime="2041-01-01 00:00:00.5"),
    ]
    load_lines(here, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    entry = load_lines(here, [*odd, odd[2], trip(1, FEBRUARY)], tmp_path)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate) == (5, 3, 2)
    assert entry.days == (JANUARY, FEBRUARY, datetime.date(2041, 1, 1), None)
    assert [reason for reason, _, _ in set_aside(here)] == ["duplicate_in_file", "duplicate_of_other_file"]
    forget_month(here)
    forget_month(here, FEBRUARY)
    assert (trips_in(here), set_aside(here)) == ([], [])


def test_bad_row_is_told_with_where_it_is(here: GoogleCloud, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"line 5, column trip_distance: .*far"):
        load_lines(here, [*trips(3), trip(3, trip_distance="far")], tmp_path)
    forget_month(here)


def test_dearer_query_than_allowed_is_not_run(here: GoogleCloud, tmp_path: Path) -> None:
    upload_lines(here, trips(3), tmp_path)
    frugal = replace(here, place=replace(here.place, maximum_bytes_billed=1))

    with pytest.raises(PipelineError, match=r"raise \[gcp\] maximum_bytes_billed"):
        load_uploaded(frugal)
    forget_month(here)


def test_only_the_partitions_of_a_files_days_are_paid_for(here: GoogleCloud, tmp_path: Path) -> None:
    load_lines(here, trips(100), tmp_path)
    config = query_config(here.place, {}, filename="green_tripdata_2019-01.csv")
    config.dry_run = True

    def cost(day: datetime.date) -> int:
        rows = FileRows(here.place, Release(dataset_named("green"), JANUARY), (day,))
        delete = statement("delete_file", table=rows.table, loaded_days=rows.days_condition("loaded"))
        with contextlib.closing(here.place.bigquery()) as client:
            return int(client.query(delete, job_config=config).total_bytes_processed)

    assert cost(FEBRUARY) == 0 < cost(JANUARY)
    forget_month(here)
