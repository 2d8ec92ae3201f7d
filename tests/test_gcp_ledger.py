"""A ledger that was deleted is restored from its copies in the bucket, and months are not loaded again.

Copies of rows of a dataset that was deleted, or of another one, do not count.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import JANUARY
from gcp import GoogleCloud
from gcp_trips import FAMILY, forget_month, ledger_entry, load_lines, load_uploaded, trips_in, upload_lines
from trips import FEBRUARY, trips

from pipeline.datasets import Release, dataset_named
from pipeline.warehouses.bigquery.resources import create_resources
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse


@pytest.fixture
def without_ledger(prepared_cloud: GoogleCloud, tmp_path: Path) -> GoogleCloud:
    """A project with January, whose ledger was deleted."""
    load_lines(prepared_cloud, trips(4), tmp_path)
    prepared_cloud.rows("DROP TABLE load_ledger")
    return prepared_cloud


def warehouse(cloud: GoogleCloud) -> BigQueryWarehouse:
    return BigQueryWarehouse(cloud.project, cloud.project.dataset, 1, Path())


def loaded_rows(cloud: GoogleCloud) -> list[tuple[str, int]]:
    return [(entry.partition_key, entry.rows_loaded) for entry in warehouse(cloud).loaded()]


def count_loads(cloud: GoogleCloud) -> int:
    """How many jobs were submitted that load a file."""
    return sum(job["jobReference"]["jobId"].startswith("tlc_load") for job in cloud.jobs())


def test_month_is_in_the_restored_ledger_and_is_not_loaded_again(without_ledger: GoogleCloud, tmp_path: Path) -> None:
    release, before = Release(dataset_named("green"), JANUARY), count_loads(without_ledger)
    assert not warehouse(without_ledger).find_load(FAMILY, release)
    assert loaded_rows(without_ledger) == []

    entry = load_uploaded(without_ledger)

    assert entry.rows_loaded == 4 and count_loads(without_ledger) == before
    assert warehouse(without_ledger).find_load(FAMILY, release) == entry
    assert loaded_rows(without_ledger) == [("green/2019-01", 4)]


def test_two_loads_that_restore_the_ledger_at_the_same_time_lose_no_month(
    without_ledger: GoogleCloud, tmp_path: Path
) -> None:
    upload_lines(without_ledger, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    with ThreadPoolExecutor(2) as workers:
        done = [workers.submit(load_uploaded, without_ledger, month) for month in (JANUARY, FEBRUARY)]
        assert [work.result(60).rows_loaded for work in done] == [4, 2]

    assert loaded_rows(without_ledger) == [("green/2019-01", 4), ("green/2019-02", 2)]


def test_ledger_that_another_account_has_restored_meanwhile_is_kept(
    without_ledger: GoogleCloud, tmp_path: Path
) -> None:
    """Its jobs cannot be joined, as only the other account may read them."""
    upload_lines(without_ledger, trips(2, FEBRUARY), tmp_path, FEBRUARY)

    def load_by_another_account() -> None:
        load_uploaded(without_ledger, FEBRUARY)
        without_ledger.wire.inject("^GET .*/jobs/tlc_ledger", status=403, reason="accessDenied", times=2)

    without_ledger.wire.inject("^POST /upload/bigquery", action=load_by_another_account)

    assert load_uploaded(without_ledger).rows_loaded == 4
    assert loaded_rows(without_ledger) == [("green/2019-01", 4), ("green/2019-02", 2)]


def test_ledger_is_restored_whenever_it_is_deleted(without_ledger: GoogleCloud, tmp_path: Path) -> None:
    load_lines(without_ledger, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    without_ledger.rows("DROP TABLE load_ledger")

    assert load_uploaded(without_ledger).rows_loaded == 4
    assert loaded_rows(without_ledger) == [("green/2019-01", 4), ("green/2019-02", 2)]


def test_month_can_be_forgotten_without_its_ledger(without_ledger: GoogleCloud) -> None:
    assert forget_month(without_ledger)

    assert (trips_in(without_ledger), without_ledger.objects(), ledger_entry(without_ledger)) == ([], [], None)


def test_ledger_of_an_older_version_is_read(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    """It has its new columns only after the next load. The days of its rows are in their copies in the bucket."""
    load_lines(prepared_cloud, trips(4), tmp_path)
    prepared_cloud.rows("CREATE OR REPLACE TABLE load_ledger AS SELECT * EXCEPT (run_id, etag, days) FROM load_ledger")

    assert loaded_rows(prepared_cloud) == [("green/2019-01", 4)]

    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path, FEBRUARY)
    assert loaded_rows(prepared_cloud) == [("green/2019-01", 4), ("green/2019-02", 2)]
    checksums = warehouse(prepared_cloud).checksums(Release(dataset_named("green"), JANUARY))
    assert sum(day.rows for day in checksums.values()) == 4

    assert forget_month(prepared_cloud)
    assert len(trips_in(prepared_cloud)) == 2


def test_new_edition_replaces_all_rows_that_an_older_version_loaded(
    prepared_cloud: GoogleCloud, tmp_path: Path
) -> None:
    load_lines(prepared_cloud, trips(4), tmp_path)
    prepared_cloud.rows("CREATE OR REPLACE TABLE load_ledger AS SELECT * EXCEPT (days) FROM load_ledger")

    load_lines(prepared_cloud, trips(2, FEBRUARY), tmp_path)  # on other days
    assert len(trips_in(prepared_cloud)) == 2


def test_first_ledger_is_not_an_empty_upload(prepared_cloud: GoogleCloud, tmp_path: Path) -> None:
    load_lines(prepared_cloud, trips(4), tmp_path)

    (content,) = prepared_cloud.wire.seen("^PUT /upload/bigquery")
    assert "task_family,partition_key" in content


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
    assert loaded_rows(other) == []

    assert load_uploaded(other).rows_loaded == 4
    assert len(trips_in(other)) == 4
    assert loaded_rows(other) == [("green/2019-01", 4)]
