"""Tests in a real project of what emulators cannot prove: `TLC_GCP_PROJECT=my-project pytest -m gcp`.

They create a bucket and datasets of their own, which they remove at the end, with the credentials of the environment.
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
from gcp_trips import forget_month, load_lines, load_uploaded, quarantined_rows, trips_in, upload_lines
from test_gcp_statements import EDGE_CASES, texts_in_postgres, texts_query
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
    """A bucket and datasets in the real project, which are removed after the tests of this module."""
    if "TLC_GCP_PROJECT" not in os.environ:
        pytest.skip("TLC_GCP_PROJECT is not set: no Google Cloud project to work in")
    name, location = f"tlc_test_{uuid.uuid4().hex[:12]}", os.environ.get("TLC_GCP_LOCATION", "US")
    project = GoogleProject(os.environ["TLC_GCP_PROJECT"], location, name.replace("_", "-"), name, 10**9)
    create_resources(project)
    try:
        yield GoogleCloud(None, project)
    finally:
        with contextlib.closing(project.storage()) as storage, contextlib.closing(project.bigquery()) as bigquery:
            storage.get_bucket(project.bucket).delete(force=True)
            for dataset in (project.dataset, project.staging_dataset):
                bigquery.delete_dataset(dataset, delete_contents=True)


@pytest.fixture
def real_project(project: GoogleCloud, monkeypatch: pytest.MonkeyPatch) -> GoogleCloud:
    """The real project, with the environment in which the pipeline's commands use it."""
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    return project


def test_resources_exist_and_are_not_public(real_project: GoogleCloud) -> None:
    assert missing_resources(real_project.project) == []
    with contextlib.closing(real_project.project.storage()) as client:
        bucket = client.get_bucket(real_project.project.bucket)
    assert bucket.iam_configuration.uniform_bucket_level_access_enabled
    assert bucket.iam_configuration.public_access_prevention == "enforced"


def test_values_have_the_same_text_as_in_postgres(real_project: GoogleCloud, database: PostgresDatabase) -> None:
    assert dict(zip(EDGE_CASES, real_project.rows(texts_query())[0], strict=True)) == texts_in_postgres(database)


def test_month_is_loaded_forced_reconciled_and_forgotten(
    real_project: GoogleCloud, luigi: Run, pipeline: Run, mirror: Path
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
    assert (trips_in(real_project), real_project.objects()) == ([], [])


def test_rows_of_all_kinds_are_accounted_for(real_project: GoogleCloud, tmp_path: Path) -> None:
    unusual_rows = [
        trip(0, store_and_fwd_flag='"a, b"', vendorid=""),
        trip(1, lpep_pickup_datetime="", congestion_surcharge=""),
        trip(2, JANUARY, lpep_pickup_datetime="2041-01-01 00:00:00.5"),
    ]
    load_lines(real_project, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    entry = load_lines(real_project, [*unusual_rows, unusual_rows[2], trip(1, FEBRUARY)], tmp_path)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate) == (5, 3, 2)
    assert entry.days == (JANUARY, FEBRUARY, datetime.date(2041, 1, 1), None)
    assert [reason for reason, _, _ in quarantined_rows(real_project)] == [
        "duplicate_in_file",
        "duplicate_of_other_file",
    ]
    forget_month(real_project)
    forget_month(real_project, FEBRUARY)
    assert (trips_in(real_project), quarantined_rows(real_project)) == ([], [])


def test_bad_row_is_reported_with_its_line_and_column(real_project: GoogleCloud, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"line 5, column trip_distance: .*far"):
        load_lines(real_project, [*trips(3), trip(3, trip_distance="far")], tmp_path)
    forget_month(real_project)


def test_query_that_exceeds_the_bytes_billed_limit_is_not_run(real_project: GoogleCloud, tmp_path: Path) -> None:
    upload_lines(real_project, trips(3), tmp_path)
    limited = replace(real_project, project=replace(real_project.project, maximum_bytes_billed=1))

    with pytest.raises(PipelineError, match=r"raise \[gcp\] maximum_bytes_billed"):
        load_uploaded(limited)
    forget_month(real_project)


def test_queries_of_a_file_only_read_the_partitions_of_its_days(real_project: GoogleCloud, tmp_path: Path) -> None:
    load_lines(real_project, trips(100), tmp_path)
    config = query_config(real_project.project, {}, filename="green_tripdata_2019-01.csv")
    config.dry_run = True

    def cost(day: datetime.date) -> int:
        rows = FileRows(real_project.project, Release(dataset_named("green"), JANUARY), (day,))
        delete = statement("delete_rows", **rows.parts)
        with contextlib.closing(real_project.project.bigquery()) as client:
            return int(client.query(delete, job_config=config).total_bytes_processed)

    assert cost(FEBRUARY) == 0 < cost(JANUARY)
    forget_month(real_project)
