"""Faults during a load into BigQuery: the month is loaded once, or not at all and the message says why."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import JANUARY
from gcp import GoogleCloud
from gcp_trips import (
    FAMILY,
    FILE,
    BlockedRequest,
    forget_month,
    ledger_entry,
    load_uploaded,
    quarantined_rows,
    trips_in,
    upload_lines,
)
from trips import trip, trips

from pipeline.datasets import Release, dataset_named
from pipeline.errors import PipelineError, TransientError
from pipeline.warehouses.bigquery import jobs
from pipeline.warehouses.bigquery.warehouse import BigQueryWarehouse
from pipeline.warehouses.ledger import Build

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
TABLE_LOST = "Query error: Not found: Table my-project:tlc.green_tripdata was not found in location US at [8:1]"


@pytest.fixture
def uploaded(prepared_cloud: GoogleCloud, tmp_path: Path) -> GoogleCloud:
    """A project with January's file in its bucket."""
    upload_lines(prepared_cloud, LINES, tmp_path)
    return prepared_cloud


def count_jobs(cloud: GoogleCloud) -> Counter[str]:
    """How many jobs of each step the pipeline submitted, without queries of the ledger."""
    labels = [job["configuration"].get("labels") or {} for job in cloud.jobs()]
    return Counter(step for label in labels if (step := label.get("step", "ledger")) != "ledger")


def assert_loaded(cloud: GoogleCloud, rows: int = 4, quarantined: int = 1) -> None:
    assert len({row_id for row_id, _, _ in trips_in(cloud)}) == len(trips_in(cloud)) == rows
    assert quarantined_rows(cloud) == ([("duplicate_in_file", FILE, quarantined)] if quarantined else [])
    entry, marker = ledger_entry(cloud), cloud.marker()
    assert entry and entry.finished_at
    assert (entry.rows_loaded, entry.rows_duplicate) == (rows, quarantined)
    assert marker["load_id"] == entry.load_id and marker["finished_at"] == entry.finished_at.isoformat()


def assert_not_loaded(cloud: GoogleCloud) -> None:
    assert trips_in(cloud) == []
    assert not ledger_entry(cloud)


@pytest.mark.parametrize("fault", [{"status": 503}, {"response_lost": True}], ids=str)
@pytest.mark.parametrize("request_of", [STAGE, DAYS, LOAD, WRITE_MARKER, DROP, "^POST /bigquery.*CREATE TABLE"])
def test_transient_failure_does_not_stop_the_load(
    uploaded: GoogleCloud, request_of: str, fault: dict[str, object]
) -> None:
    uploaded.wire.inject(request_of, **fault)

    load_uploaded(uploaded)

    assert_loaded(uploaded)
    assert count_jobs(uploaded) <= Counter(stage=1, days=2, load=1)


@pytest.mark.parametrize(
    "error",
    [
        {"reason": "backendError"},
        {"reason": "invalidQuery", "message": "Transaction is aborted due to concurrent update against table t"},
        {"reason": "invalidQuery", "message": "Query error: Exceeded rate limits: too many table update operations"},
    ],
    ids=lambda error: error["reason"],
)
def test_job_that_fails_transiently_is_submitted_again(uploaded: GoogleCloud, error: dict[str, str]) -> None:
    uploaded.wire.inject(RUN_LOAD, status=500, **error)

    load_uploaded(uploaded)

    assert_loaded(uploaded)
    assert count_jobs(uploaded)["load"] == 2


@pytest.mark.parametrize("job", ["^RUN tlc_stage", RUN_LOAD])
def test_job_that_keeps_failing_transiently_is_reported_as_transient(
    uploaded: GoogleCloud, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    monkeypatch.setattr(jobs, "_RETRIES", 1)
    uploaded.wire.inject(job, status=503, reason="backendError", message="Backend error.", times=2)

    with pytest.raises(TransientError, match=f"{FILE}: BigQuery says: Backend error; run again"):
        load_uploaded(uploaded)


@pytest.mark.parametrize("job", ["tlc_stage", "tlc_load"])
def test_job_of_another_account_is_run_again(uploaded: GoogleCloud, job: str) -> None:
    """Only its account may read it, also if it has failed."""
    uploaded.wire.inject(f"^RUN {job}", status=403, reason="accessDenied", message="Access Denied: theirs")
    with pytest.raises(PipelineError, match="Access Denied: theirs"):
        load_uploaded(uploaded)
    denied = "Access Denied: User does not have bigquery.jobs.get permission for job"
    uploaded.wire.inject(f"^GET .*/jobs/{job}[^?]*_1[?]", status=403, reason="accessDenied", message=denied)

    load_uploaded(uploaded)

    assert_loaded(uploaded)


def test_record_of_a_build_that_is_replaced_while_it_is_read_is_read(prepared_cloud: GoogleCloud) -> None:
    now = datetime.datetime.now(datetime.UTC)
    older, newer = (Build(digest, digest, now) for digest in ("older", "newer"))
    adapter = warehouse(prepared_cloud)
    adapter.record_build(older)
    prepared_cloud.wire.inject("^GET .*DbtBuild.*alt=media", action=lambda: adapter.record_build(newer))

    assert adapter.last_build() == newer


@pytest.mark.parametrize("statement", ["UPDATE", "DELETE FROM .*green_trip", "INSERT INTO .*green_trip", "COMMIT"])
def test_failed_transaction_changes_nothing_and_the_next_load_reuses_the_staged_rows(
    uploaded: GoogleCloud, statement: str
) -> None:
    uploaded.wire.inject(f"^STEP tlc_load[^ ]* {statement}", status=403, reason="accessDenied", message="Denied: no")

    with pytest.raises(PipelineError) as failure:
        load_uploaded(uploaded)
    assert str(failure.value) == f"{FILE}, load: BigQuery says: Denied: no"
    assert_not_loaded(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)
    assert count_jobs(uploaded) == Counter(stage=1, days=2, load=2)


def test_load_that_has_failed_often_is_still_tried(uploaded: GoogleCloud) -> None:
    uploaded.wire.inject(RUN_LOAD, status=403, reason="quotaExceeded", message="Quota exceeded: no", times=3)
    for _ in range(3):
        with pytest.raises(PipelineError, match="Quota exceeded: no"):
            load_uploaded(uploaded)

    load_uploaded(uploaded)

    assert_loaded(uploaded)


def test_month_whose_marker_was_not_written_gets_it_without_being_loaded_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.inject(WRITE_MARKER, status=403, reason="forbidden")
    with pytest.raises(PipelineError, match="grant what is missing"):
        load_uploaded(uploaded)
    assert not warehouse(uploaded).find_load(FAMILY, Release(dataset_named("green"), JANUARY))

    load_uploaded(uploaded)
    assert_loaded(uploaded)
    assert warehouse(uploaded).find_load(FAMILY, Release(dataset_named("green"), JANUARY))
    assert count_jobs(uploaded) == Counter(stage=1, days=1, load=1)


def test_job_that_bigquery_does_not_find_yet_is_waited_for(uploaded: GoogleCloud) -> None:
    uploaded.wire.inject(STAGE, response_lost=True)
    uploaded.wire.inject("^GET .*/jobs/tlc_stage", status=404, reason="notFound", message="Not found: Job")

    load_uploaded(uploaded)

    assert_loaded(uploaded)
    assert count_jobs(uploaded)["stage"] == 1


def test_lock_created_by_another_worker_at_the_same_time_is_used(uploaded: GoogleCloud) -> None:
    lock = f"{uploaded.project.dataset}.load_lock"
    create = f"CREATE TABLE {lock} AS SELECT 'load_ledger' AS ledger, 'a token' AS token"
    uploaded.wire.inject(
        "^POST .*CREATE TABLE IF NOT EXISTS.*load_lock",
        status=409,
        reason="duplicate",
        message=f"Already Exists: Table {uploaded.project.project}:{lock}",
        action=lambda: uploaded.rows(create),
    )

    load_uploaded(uploaded)

    assert_loaded(uploaded)


@pytest.mark.parametrize("request_of", [STAGE, "^GET .*/datasets/tlc[?]", "^GET .*/tables/green_tripdata[?]"])
def test_request_that_exceeds_a_rate_limit_is_sent_again(uploaded: GoogleCloud, request_of: str) -> None:
    """BigQuery refuses it with 403, like a request that is not permitted."""
    uploaded.wire.inject(request_of, status=403, reason="rateLimitExceeded")

    load_uploaded(uploaded)

    assert_loaded(uploaded)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("rateLimitExceeded", "run again"),
        ("jobRateLimitExceeded", "run again"),
        ("quotaExceeded", "run again when the project has quota left, or raise it in Google's console"),
        ("billingNotEnabled", "link the project to a billing account (docs/google-cloud.md)"),
        ("accessNotConfigured", "enable the API in the project (docs/google-cloud.md)"),
        ("accessDenied", "grant what is missing (docs/google-cloud.md lists the roles)"),
    ],
)
def test_refused_request_is_reported_with_the_remedy_for_its_reason(
    uploaded: GoogleCloud, monkeypatch: pytest.MonkeyPatch, reason: str, remedy: str
) -> None:
    monkeypatch.setattr("pipeline.warehouses.bigquery.client._RETRY_SECONDS", 0.1)
    uploaded.wire.inject("^GET .*/datasets/tlc[?]", status=403, reason=reason, message="Refused: no.", times=100)

    with pytest.raises(PipelineError) as failure:
        load_uploaded(uploaded)
    uploaded.wire.incidents.clear()

    assert str(failure.value) == f"green/2019-01 was not loaded into BigQuery: Refused: no; {remedy}"
    assert isinstance(failure.value, TransientError) == (remedy == "run again")


def test_query_over_the_limit_is_not_repeated_if_the_library_takes_it_for_a_server_error(uploaded: GoogleCloud) -> None:
    """It gives a failed job status 500 if it does not know the reason."""
    message = "Query exceeded limit for bytes billed: 500. 10485760 or higher required."
    uploaded.wire.inject(DAYS, status=500, reason="bytesBilledLimitExceeded", message=message)

    with pytest.raises(PipelineError, match=r"or higher required; raise \[gcp\] maximum_bytes_billed") as failure:
        load_uploaded(uploaded)
    assert not isinstance(failure.value, TransientError)


def test_job_without_quota_is_reported_with_the_remedy(uploaded: GoogleCloud) -> None:
    uploaded.wire.inject(RUN_LOAD, status=403, reason="quotaExceeded", message="Quota exceeded: no.")

    with pytest.raises(PipelineError, match="BigQuery says: Quota exceeded: no; run again when the project has quota"):
        load_uploaded(uploaded)


def test_staging_job_that_is_denied_does_not_blame_the_file(uploaded: GoogleCloud) -> None:
    uploaded.wire.inject("^RUN tlc_stage", status=403, reason="accessDenied", message="Access Denied: no")

    with pytest.raises(PipelineError) as failure:
        load_uploaded(uploaded)
    assert str(failure.value).endswith("and no row of it: BigQuery says: Access Denied: no")
    assert_not_loaded(uploaded)


def test_expired_staging_table_is_created_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.inject(RUN_LOAD, status=403, reason="accessDenied")
    with pytest.raises(PipelineError):
        load_uploaded(uploaded)
    drop_staging(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)


@pytest.mark.parametrize("moment", [DAYS, LOAD, RUN_LOAD, "^STEP tlc_load[^ ]* INSERT INTO .*green_trip"])
def test_staging_table_removed_during_the_load_is_created_again(uploaded: GoogleCloud, moment: str) -> None:
    uploaded.wire.inject(moment, action=lambda: drop_staging(uploaded))

    load_uploaded(uploaded)

    assert_loaded(uploaded)


def test_table_removed_during_the_load_is_created_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.inject(RUN_LOAD, action=lambda: uploaded.rows("DROP TABLE green_tripdata"))

    load_uploaded(uploaded)

    assert_loaded(uploaded)


@pytest.mark.parametrize(
    ("request_of", "fault"),
    [
        ("^POST /bigquery.*tlc_forget", {"response_lost": True}),
        ("^POST /bigquery.*tlc_forget", {"status": 404, "reason": "notFound"}),
        ("^RUN tlc_forget", {"status": 404, "reason": "notFound"}),
        ("^RUN tlc_forget", {"status": 400, "reason": "invalidQuery", "message": TABLE_LOST}),
        ("^POST /bigquery.*load_lock", {"status": 503}),
        ("^DELETE /storage.*green_tripdata", {"response_lost": True}),
        ("^DELETE /storage.*_ledger", {"response_lost": True}),
    ],
)
def test_month_is_forgotten_when_a_request_fails_or_its_response_is_lost(
    uploaded: GoogleCloud, request_of: str, fault: dict[str, object]
) -> None:
    load_uploaded(uploaded)
    uploaded.wire.inject(request_of, **fault)

    assert forget_month(uploaded)
    assert (trips_in(uploaded), quarantined_rows(uploaded), uploaded.objects()) == ([], [], [])


def test_object_replaced_while_it_is_staged_is_staged_again(uploaded: GoogleCloud, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    uploaded.wire.inject(
        "^RUN tlc_stage", action=lambda: upload_lines(uploaded, trips(7), tmp_path / "other", force=True)
    )

    load_uploaded(uploaded)

    assert_loaded(uploaded, rows=7, quarantined=0)


def test_object_removed_while_it_is_staged_is_reported(uploaded: GoogleCloud) -> None:
    def remove() -> None:
        with contextlib.closing(uploaded.project.storage()) as client:
            client.bucket(uploaded.project.bucket).delete_blob(FILE)

    uploaded.wire.inject("^RUN tlc_stage", action=remove)

    with pytest.raises(PipelineError, match="was removed before it was loaded; run again"):
        load_uploaded(uploaded)
    assert_not_loaded(uploaded)


def change_metadata(cloud: GoogleCloud, **changes: str) -> None:
    with contextlib.closing(cloud.project.storage()) as client:
        blob = client.bucket(cloud.project.bucket).get_blob(FILE)
        blob.metadata = blob.metadata | changes
        blob.patch()


def test_object_uploaded_for_other_columns_is_reported(uploaded: GoogleCloud) -> None:
    change_metadata(uploaded, columns="vendorid,surge")

    with pytest.raises(PipelineError, match=r"green\.yaml does not declare: surge; run again with --force"):
        load_uploaded(uploaded)
    assert_not_loaded(uploaded)


def test_object_whose_metadata_was_edited_is_reported(uploaded: GoogleCloud) -> None:
    change_metadata(uploaded, rows="many")

    with pytest.raises(PipelineError, match="was not uploaded by this pipeline; remove it"):
        load_uploaded(uploaded)


def test_two_loads_of_a_month_at_the_same_time_load_it_once(uploaded: GoogleCloud) -> None:
    at_once = threading.Barrier(2)
    for _ in range(2):
        uploaded.wire.inject(STAGE, action=lambda: at_once.wait(20))

    with ThreadPoolExecutor(2) as workers:
        entries = list(workers.map(lambda _: load_uploaded(uploaded), range(2)))

    assert entries[0] == entries[1]
    assert_loaded(uploaded)
    assert count_jobs(uploaded)["load"] == 1


def test_query_that_exceeds_the_bytes_billed_limit_is_not_run(uploaded: GoogleCloud) -> None:
    limited = replace(uploaded, project=replace(uploaded.project, maximum_bytes_billed=10))

    with pytest.raises(PipelineError) as failure:
        load_uploaded(limited)
    assert str(failure.value).endswith("raise [gcp] maximum_bytes_billed if this is intended")
    assert "limit for bytes billed: 10" in str(failure.value)
    assert_not_loaded(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)


def test_limit_of_zero_allows_any_number_of_bytes(uploaded: GoogleCloud) -> None:
    load_uploaded(replace(uploaded, project=replace(uploaded.project, maximum_bytes_billed=0)))

    assert_loaded(uploaded)


def test_table_that_the_pipeline_did_not_create_is_left_alone(uploaded: GoogleCloud) -> None:
    uploaded.rows("CREATE OR REPLACE TABLE green_tripdata (unique_row_id STRING, mine INT64)")

    with pytest.raises(PipelineError, match=r"green_tripdata exists already and is not the one that .*green\.yaml"):
        load_uploaded(uploaded)
    assert count_jobs(uploaded)["stage"] == 0


def test_new_row_key_is_refused_while_the_table_has_ids_of_the_old_one(uploaded: GoogleCloud) -> None:
    load_uploaded(uploaded)
    green = dataset_named("green")
    changed = replace(green, version=green.version + 1, row_key=(*green.row_key, "payment_type"))

    with pytest.raises(PipelineError, match=r"green_tripdata: unique_row_id is the MD5 of .* is .*payment_type;"):
        load_uploaded(uploaded, dataset=changed, replace=True)
    assert_loaded(uploaded)


def test_marker_that_the_pipeline_did_not_write_is_left_alone(uploaded: GoogleCloud) -> None:
    with contextlib.closing(uploaded.project.storage()) as client:
        client.bucket(uploaded.project.bucket).blob(MARKER).upload_from_string('{"mine": true}')

    with pytest.raises(PipelineError, match=rf"{MARKER} is not a marker of this pipeline; remove it and run again"):
        load_uploaded(uploaded)


def test_request_that_bigquery_does_not_answer_is_sent_again(
    uploaded: GoogleCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "REQUEST_SECONDS", 0.5)
    answer = BlockedRequest(uploaded, "^GET /bigquery.*jobs/tlc_load")
    with ThreadPoolExecutor(1) as worker:
        load = worker.submit(load_uploaded, uploaded)
        try:
            load.result(20)
        finally:
            answer.may_continue.set()

    assert_loaded(uploaded)


@pytest.mark.parametrize(
    ("request_", "use", "problem"),
    [
        ("^GET .*/tables/", lambda adapter: adapter.loaded(), "the ledger cannot be read"),
        ("^GET .*/tables", lambda adapter: adapter.foreign_relations([], []), "the models' relations cannot be listed"),
        ("^GET .*/tables", lambda adapter: adapter.has_relations([]), "the models' relations cannot be looked at"),
        ("^POST ", lambda adapter: adapter.select("SELECT 1"), "the report cannot be made"),
    ],
)
def test_refused_request_is_reported_with_what_could_not_be_done(
    prepared_cloud: GoogleCloud, request_: str, use: Callable[[BigQueryWarehouse], object], problem: str
) -> None:
    prepared_cloud.wire.inject(request_, status=403, reason="accessDenied", message="Access Denied")

    with pytest.raises(PipelineError, match=f"^{problem}: Access Denied; "):
        use(warehouse(prepared_cloud))


def drop_staging(cloud: GoogleCloud) -> None:
    with contextlib.closing(cloud.project.bigquery()) as client:
        for table in cloud.tables(cloud.project.staging_dataset):
            client.delete_table(f"{cloud.project.project}.{cloud.project.staging_dataset}.{table}")


def warehouse(cloud: GoogleCloud) -> BigQueryWarehouse:
    return BigQueryWarehouse(cloud.project, cloud.project.dataset, 1, Path())
