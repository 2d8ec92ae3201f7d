"""Months of which only the bucket has the ledger: taken over once, and not loaded again.

An earlier version kept its ledger there. Copies of rows of a dataset that was deleted, or of another one, do not count.
"""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import JANUARY
from gcp import GoogleCloud
from gcp_trips import FAMILY, FILE, forget_month, ledger_entry, load_lines, load_uploaded, trips_in, upload_lines
from trips import FEBRUARY, trip, trips

from pipeline.datasets import Release, dataset_named
from pipeline.warehouses.bigquery.resources import create_resources
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse

MARKER = f"_ledger/{FAMILY}/green/2019-01.json"
NEW_FIELDS = ("load_id", "run_id", "source", "format", "etag", "last_modified")


@pytest.fixture
def old_ledger(prepared_cloud: GoogleCloud, tmp_path: Path) -> GoogleCloud:
    """January as an older version left it: its rows, its marker, and the copy of the ledger that was made for dbt."""
    load_lines(prepared_cloud, trips(4), tmp_path)
    rewrite_marker(prepared_cloud)
    prepared_cloud.rows("DROP TABLE load_lock")
    prepared_cloud.rows(
        "CREATE OR REPLACE TABLE load_ledger AS"
        " SELECT task_family, partition_key, target_table, rows_loaded, finished_at FROM load_ledger"
    )
    return prepared_cloud


def rewrite_marker(cloud: GoogleCloud, **changes: object) -> None:
    marker = cloud.marker()
    marker = {key: value for key, value in marker.items() if key not in NEW_FIELDS}
    with contextlib.closing(cloud.project.storage()) as client:
        blob = client.bucket(cloud.project.bucket).blob(MARKER)
        blob.upload_from_string(json.dumps(marker | {"claim": "0" * 32} | changes))


def warehouse(cloud: GoogleCloud) -> BigQueryWarehouse:
    return BigQueryWarehouse(cloud.project, cloud.project.dataset, 1, Path())


def count_loads(cloud: GoogleCloud) -> int:
    """How many jobs were submitted that load a file."""
    return sum(job["jobReference"]["jobId"].startswith("tlc_load") for job in cloud.jobs())


def test_month_is_complete_before_and_after_the_take_over_and_is_not_loaded_again(
    old_ledger: GoogleCloud, tmp_path: Path
) -> None:
    release, before = Release(dataset_named("green"), JANUARY), count_loads(old_ledger)
    for _ in range(2):
        found = warehouse(old_ledger).find_load(FAMILY, release)
        assert found and (found.rows_loaded, found.load_id) == (4, "0" * 32)
        assert [entry.partition_key for entry in warehouse(old_ledger).loaded()] == ["green/2019-01"]
        assert load_uploaded(old_ledger) == found
    assert count_loads(old_ledger) == before

    load_lines(old_ledger, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    assert len(warehouse(old_ledger).loaded()) == 2 and len(trips_in(old_ledger)) == 6


def test_two_loads_that_take_over_at_the_same_time_lose_no_month(old_ledger: GoogleCloud, tmp_path: Path) -> None:
    upload_lines(old_ledger, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    with ThreadPoolExecutor(2) as workers:
        done = [workers.submit(load_uploaded, old_ledger, month) for month in (JANUARY, FEBRUARY)]
        assert [work.result(60).rows_loaded for work in done] == [4, 2]

    assert [entry.partition_key for entry in warehouse(old_ledger).loaded()] == ["green/2019-01", "green/2019-02"]


def test_month_that_was_not_taken_over_can_be_forgotten(old_ledger: GoogleCloud) -> None:
    assert forget_month(old_ledger)

    assert (trips_in(old_ledger), old_ledger.objects(), ledger_entry(old_ledger)) == ([], [], None)


def test_rows_of_an_unfinished_load_are_replaced_on_all_days(old_ledger: GoogleCloud, tmp_path: Path) -> None:
    rewrite_marker(old_ledger, finished_at=None, rows_loaded=0)
    assert not warehouse(old_ledger).find_load(FAMILY, Release(dataset_named("green"), JANUARY))
    assert warehouse(old_ledger).loaded() == []

    load_lines(old_ledger, [trip(number, FEBRUARY) for number in range(3)], tmp_path)

    assert [(file, time[:7]) for _, file, time in trips_in(old_ledger)] == [(FILE, "2019-02")] * 3


def test_first_ledger_is_not_an_empty_upload(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    load_lines(prepared_cloud, trips(4), tmp_path)

    (content,) = prepared_cloud.wire.seen("^PUT /upload/bigquery")
    assert "task_family,partition_key" in content


def test_ledger_that_was_deleted_is_restored_from_the_bucket(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    loaded = load_lines(prepared_cloud, trips(4), tmp_path)
    prepared_cloud.rows("DROP TABLE load_ledger")
    assert warehouse(prepared_cloud).find_load(FAMILY, Release(dataset_named("green"), JANUARY)) == loaded

    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)

    found = [(entry.partition_key, entry.rows_loaded) for entry in warehouse(prepared_cloud).loaded()]
    assert found == [("green/2019-01", 4), ("green/2019-02", 2)]


@pytest.mark.parametrize("is_deleted", [True, False])
def test_copies_of_the_rows_of_another_dataset_do_not_count(
    prepared_cloud: GoogleCloud, tmp_path: Path, is_deleted: bool
) -> None:
    load_lines(prepared_cloud, trips(4), tmp_path)
    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    if is_deleted:
        for table in prepared_cloud.tables():
            prepared_cloud.rows(f"DROP TABLE {table}")
        other = prepared_cloud
    else:
        other = replace(prepared_cloud, project=replace(prepared_cloud.project, dataset="other"))
        create_resources(other.project)

    assert not warehouse(other).find_load(FAMILY, Release(dataset_named("green"), JANUARY))
    assert warehouse(other).loaded() == []

    assert load_uploaded(other).rows_loaded == 4
    assert len(trips_in(other)) == 4
    assert [entry.partition_key for entry in warehouse(other).loaded()] == ["green/2019-01"]
