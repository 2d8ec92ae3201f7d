"""What goes wrong while a month is loaded into BigQuery: it ends up loaded once, or not at all, and says why."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import JANUARY
from gcp import GoogleCloud
from gcp_trips import (
    FAMILY,
    FILE,
    Held,
    forget_month,
    ledger_entry,
    load_uploaded,
    set_aside,
    trips_in,
    upload_lines,
)
from trips import trip, trips

from pipeline.datasets import Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery import jobs
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse

LINES = [*trips(4), trip(2)]
MARKER = f"_ledger/{FAMILY}/green/2019-01.json"
STAGE, DAYS, LOAD, RUN_LOAD, WRITE_MARKER, DROP = (
    "^POST /bigquery.*tlc_stage",
    '^POST /bigquery.*"step": "days"',
    "^POST /bigquery.*tlc_load",
    "^RUN tlc_load",
    "^POST /upload/.*multipart",
    "^DELETE /bigquery",
)


@pytest.fixture
def uploaded(loadable: GoogleCloud, tmp_path: Path) -> GoogleCloud:
    """Where January is uploaded."""
    upload_lines(loadable, LINES, tmp_path)
    return loadable


def steps(cloud: GoogleCloud) -> Counter[str]:
    """How many jobs of each kind BigQuery was given by the pipeline."""
    labels = [job["configuration"].get("labels") or {} for job in cloud.jobs()]
    return Counter(step for label in labels if (step := label.get("step", "ledger")) != "ledger")


def assert_loaded(cloud: GoogleCloud, rows: int = 4, aside: int = 1) -> None:
    assert len({row_id for row_id, _, _ in trips_in(cloud)}) == len(trips_in(cloud)) == rows
    assert set_aside(cloud) == ([("duplicate_in_file", FILE, aside)] if aside else [])
    entry, marker = ledger_entry(cloud), cloud.marker()
    assert entry and entry.finished_at
    assert (entry.rows_loaded, entry.rows_duplicate) == (rows, aside)
    assert marker["load_id"] == entry.load_id and marker["finished_at"] == entry.finished_at.isoformat()


def assert_not_loaded(cloud: GoogleCloud) -> None:
    assert trips_in(cloud) == []
    assert not ledger_entry(cloud)


@pytest.mark.parametrize("what", [{"status": 503}, {"lost": True}], ids=str)
@pytest.mark.parametrize("request_of", [STAGE, DAYS, LOAD, WRITE_MARKER, DROP, "^POST /bigquery.*CREATE TABLE"])
def test_failures_that_pass_do_not_matter(uploaded: GoogleCloud, request_of: str, what: dict[str, object]) -> None:
    uploaded.wire.happens(request_of, **what)

    load_uploaded(uploaded)

    assert_loaded(uploaded)
    assert steps(uploaded) <= Counter(stage=1, days=2, load=1)


@pytest.mark.parametrize(
    "error",
    [
        {"reason": "backendError"},
        {"reason": "invalidQuery", "message": "Transaction is aborted due to concurrent update against table t"},
    ],
    ids=lambda error: error["reason"],
)
def test_job_that_fails_by_what_passes_is_followed_by_another(uploaded: GoogleCloud, error: dict[str, str]) -> None:
    uploaded.wire.happens(RUN_LOAD, status=500, **error)

    load_uploaded(uploaded)

    assert_loaded(uploaded)
    assert steps(uploaded)["load"] == 2


@pytest.mark.parametrize("statement", ["UPDATE", "DELETE FROM .*green_trip", "INSERT INTO .*green_trip", "COMMIT"])
def test_transaction_that_fails_changes_nothing_and_the_next_load_goes_on(
    uploaded: GoogleCloud, statement: str
) -> None:
    uploaded.wire.happens(f"^STEP tlc_load[^ ]* {statement}", status=403, reason="accessDenied", message="Denied: no")

    with pytest.raises(PipelineError) as failure:
        load_uploaded(uploaded)
    assert str(failure.value) == f"{FILE}, load: BigQuery says: Denied: no"
    assert_not_loaded(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)
    assert steps(uploaded) == Counter(stage=1, days=2, load=2)


def test_loaded_file_whose_marker_could_not_be_written_is_not_loaded_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens(WRITE_MARKER, status=403, reason="forbidden")
    with pytest.raises(PipelineError, match="grant what is missing"):
        load_uploaded(uploaded)
    assert not warehouse(uploaded).find_load(FAMILY, Release(dataset_named("green"), JANUARY))

    load_uploaded(uploaded)
    assert_loaded(uploaded)
    assert warehouse(uploaded).find_load(FAMILY, Release(dataset_named("green"), JANUARY))
    assert steps(uploaded) == Counter(stage=1, days=1, load=1)


def test_staging_job_that_is_denied_does_not_blame_the_file(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens("^RUN tlc_stage", status=403, reason="accessDenied", message="Access Denied: no")

    with pytest.raises(PipelineError) as failure:
        load_uploaded(uploaded)
    assert str(failure.value).endswith("and no row of it: BigQuery says: Access Denied: no")
    assert_not_loaded(uploaded)


def test_staging_table_that_expired_is_made_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens(RUN_LOAD, status=403, reason="accessDenied")
    with pytest.raises(PipelineError):
        load_uploaded(uploaded)
    drop_staging(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)


@pytest.mark.parametrize("moment", [DAYS, LOAD, RUN_LOAD, "^STEP tlc_load[^ ]* INSERT INTO .*green_trip"])
def test_staging_table_that_goes_meanwhile_is_made_again(uploaded: GoogleCloud, moment: str) -> None:
    uploaded.wire.happens(moment, meanwhile=lambda: drop_staging(uploaded))

    load_uploaded(uploaded)

    assert_loaded(uploaded)


def test_table_that_goes_meanwhile_is_made_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens(RUN_LOAD, meanwhile=lambda: uploaded.rows("DROP TABLE green_tripdata"))

    load_uploaded(uploaded)

    assert_loaded(uploaded)


@pytest.mark.parametrize(
    ("request_of", "what"),
    [
        ("^POST /bigquery.*tlc_forget", {"lost": True}),
        ("^POST /bigquery.*tlc_forget", {"status": 404, "reason": "notFound"}),
        ("^RUN tlc_forget", {"status": 404, "reason": "notFound"}),
        ("^POST /bigquery.*load_lock", {"status": 503}),
        ("^DELETE /storage.*green_tripdata", {"lost": True}),
        ("^DELETE /storage.*_ledger", {"lost": True}),
    ],
)
def test_month_is_forgotten_whatever_is_lost(uploaded: GoogleCloud, request_of: str, what: dict[str, object]) -> None:
    load_uploaded(uploaded)
    uploaded.wire.happens(request_of, **what)

    assert forget_month(uploaded)
    assert (trips_in(uploaded), set_aside(uploaded), uploaded.objects()) == ([], [], [])


def test_object_replaced_while_it_is_staged_is_staged_again(uploaded: GoogleCloud, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    uploaded.wire.happens(
        "^RUN tlc_stage", meanwhile=lambda: upload_lines(uploaded, trips(7), tmp_path / "other", force=True)
    )

    load_uploaded(uploaded)

    assert_loaded(uploaded, rows=7, aside=0)


def test_object_removed_while_it_is_staged_is_told(uploaded: GoogleCloud) -> None:
    def remove() -> None:
        with contextlib.closing(uploaded.place.storage()) as client:
            client.bucket(uploaded.place.bucket).delete_blob(FILE)

    uploaded.wire.happens("^RUN tlc_stage", meanwhile=remove)

    with pytest.raises(PipelineError, match="was removed before it was loaded; run again"):
        load_uploaded(uploaded)
    assert_not_loaded(uploaded)


def test_two_loads_of_a_month_at_once_load_it_once(uploaded: GoogleCloud) -> None:
    at_once = threading.Barrier(2)
    for _ in range(2):
        uploaded.wire.happens(STAGE, meanwhile=lambda: at_once.wait(20))

    with ThreadPoolExecutor(2) as workers:
        entries = list(workers.map(lambda _: load_uploaded(uploaded), range(2)))

    assert entries[0] == entries[1]
    assert_loaded(uploaded)
    assert steps(uploaded)["load"] == 1


def test_dearer_query_than_allowed_is_not_run(uploaded: GoogleCloud) -> None:
    frugal = replace(uploaded, place=replace(uploaded.place, maximum_bytes_billed=10))

    with pytest.raises(PipelineError) as failure:
        load_uploaded(frugal)
    assert str(failure.value).endswith("raise [gcp] maximum_bytes_billed if this is intended")
    assert "limit for bytes billed: 10" in str(failure.value)
    assert_not_loaded(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)


def test_queries_may_be_allowed_any_number_of_bytes(uploaded: GoogleCloud) -> None:
    load_uploaded(replace(uploaded, place=replace(uploaded.place, maximum_bytes_billed=0)))

    assert_loaded(uploaded)


def test_table_of_others_is_left_alone(uploaded: GoogleCloud) -> None:
    uploaded.rows("CREATE OR REPLACE TABLE green_tripdata (unique_row_id STRING, mine INT64)")

    with pytest.raises(PipelineError, match=r"green_tripdata exists already and is not the one that .*green\.yaml"):
        load_uploaded(uploaded)
    assert steps(uploaded)["stage"] == 0


def test_marker_of_others_is_left_alone(uploaded: GoogleCloud) -> None:
    with contextlib.closing(uploaded.place.storage()) as client:
        client.bucket(uploaded.place.bucket).blob(MARKER).upload_from_string('{"mine": true}')

    with pytest.raises(PipelineError, match=rf"{MARKER} is not a marker of this pipeline; remove it and run again"):
        load_uploaded(uploaded)


def test_bigquery_that_does_not_answer_is_asked_again(uploaded: GoogleCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "REQUEST_SECONDS", 0.5)
    answer = Held(uploaded, "^GET /bigquery.*jobs/tlc_load")
    with ThreadPoolExecutor(1) as worker:
        load = worker.submit(load_uploaded, uploaded)
        try:
            load.result(20)
        finally:
            answer.may_go.set()

    assert_loaded(uploaded)


def drop_staging(cloud: GoogleCloud) -> None:
    with contextlib.closing(cloud.place.bigquery()) as client:
        for table in cloud.tables(cloud.place.staging_dataset):
            client.delete_table(f"{cloud.place.project}.{cloud.place.staging_dataset}.{table}")


def warehouse(cloud: GoogleCloud) -> BigQueryWarehouse:
    return BigQueryWarehouse(cloud.place, cloud.place.dataset, 1, Path())
