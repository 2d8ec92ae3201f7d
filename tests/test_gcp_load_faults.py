"""What goes wrong while a month is loaded into BigQuery: it ends up loaded once, or not at all, and says why."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from gcp import GoogleCloud
from gcp_trips import FAMILY, FILE, forget_month, load_lines, load_uploaded, set_aside, trips_in, upload_lines
from trips import FEBRUARY, trip, trips
from waiting import eventually

from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery import jobs
from pipeline.warehouses.bigquery.ledger import GcpLedger

LINES = [*trips(4), trip(2)]
ON_OTHER_DAYS = [trip(number, FEBRUARY) for number in range(2, 9)]
MARKER = f"_ledger/{FAMILY}/green/2019-01.json"
STAGE, DAYS, MERGE, ASIDE, WRITE_MARKER, DROP = (
    "^POST /bigquery.*tlc_stage",
    '^POST /bigquery.*"step": "days"',
    "^POST /bigquery.*tlc_merge",
    "^POST /bigquery.*tlc_quarantine",
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
    return Counter(label["step"] for label in labels if label)


def assert_loaded(cloud: GoogleCloud, rows: int = 4, aside: int = 1) -> None:
    assert len({row_id for row_id, _, _ in trips_in(cloud)}) == len(trips_in(cloud)) == rows
    assert set_aside(cloud) == ([("duplicate_in_file", FILE, aside)] if aside else [])
    marker = cloud.marker()
    assert (marker["rows_loaded"], marker["rows_duplicate"]) == (rows, aside)
    assert marker["finished_at"]


def assert_not_loaded(cloud: GoogleCloud) -> None:
    assert trips_in(cloud) == []
    assert not GcpLedger(cloud.place).find(FAMILY, "green/2019-01")


@pytest.mark.parametrize("what", [{"status": 503}, {"lost": True}], ids=str)
@pytest.mark.parametrize(
    ("request_of", "after"),
    [(STAGE, 0), (DAYS, 0), (MERGE, 0), (ASIDE, 0), (WRITE_MARKER, 0), (WRITE_MARKER, 1), (DROP, 0)],
)
def test_failures_that_pass_do_not_matter(
    uploaded: GoogleCloud, request_of: str, after: int, what: dict[str, object]
) -> None:
    uploaded.wire.happens(request_of, after=after, **what)

    load_uploaded(uploaded)

    assert_loaded(uploaded)
    assert steps(uploaded) <= Counter(stage=1, days=2, merge=1, quarantine=1)


@pytest.mark.parametrize(
    "error",
    [
        {"reason": "backendError"},
        {"reason": "invalidQuery", "message": "Could not serialize access to table t due to concurrent update"},
    ],
    ids=lambda error: error["reason"],
)
def test_job_that_fails_by_what_passes_is_followed_by_another(uploaded: GoogleCloud, error: dict[str, str]) -> None:
    uploaded.wire.happens("^RUN tlc_merge", status=500, **error)

    load_uploaded(uploaded)

    assert_loaded(uploaded)
    assert steps(uploaded)["merge"] == 2


def test_job_that_fails_otherwise_fails_the_load_at_once_and_the_next_goes_on(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens("^RUN tlc_merge", status=403, reason="accessDenied", message="Access Denied: no")

    with pytest.raises(PipelineError) as failure:
        load_uploaded(uploaded)
    assert str(failure.value) == f"{FILE}, merge: BigQuery says: Access Denied: no"
    assert uploaded.marker()["finished_at"] is None

    load_uploaded(uploaded)
    assert_loaded(uploaded)
    assert steps(uploaded) == Counter(stage=1, days=2, merge=2, quarantine=1)


def test_merged_file_whose_marker_could_not_be_finished_is_not_merged_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens(WRITE_MARKER, after=1, status=403, reason="forbidden")
    with pytest.raises(PipelineError, match="grant what is missing"):
        load_uploaded(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)
    assert steps(uploaded) == Counter(stage=1, days=2, merge=1, quarantine=1)


def test_staging_job_that_is_denied_does_not_blame_the_file(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens("^RUN tlc_stage", status=403, reason="accessDenied", message="Access Denied: no")

    with pytest.raises(PipelineError) as failure:
        load_uploaded(uploaded)
    assert str(failure.value).endswith("and no row of it: BigQuery says: Access Denied: no")
    assert_not_loaded(uploaded)


def test_staging_table_that_expired_is_made_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens("^RUN tlc_merge", status=403, reason="accessDenied")
    with pytest.raises(PipelineError):
        load_uploaded(uploaded)
    drop_staging(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)


@pytest.mark.parametrize("moment", [DAYS, "^RUN (?!tlc_)", MERGE, "^RUN tlc_merge", ASIDE, "^RUN tlc_quarantine"])
def test_staging_table_that_goes_meanwhile_is_made_again(uploaded: GoogleCloud, moment: str) -> None:
    uploaded.wire.happens(moment, meanwhile=lambda: drop_staging(uploaded))

    load_uploaded(uploaded)

    assert_loaded(uploaded)


def test_table_that_goes_meanwhile_is_made_again(uploaded: GoogleCloud) -> None:
    uploaded.wire.happens("^RUN tlc_merge", meanwhile=lambda: uploaded.rows("DROP TABLE green_tripdata"))

    load_uploaded(uploaded)

    assert_loaded(uploaded)


def test_marker_that_changes_while_it_is_read_is_read_again(uploaded: GoogleCloud) -> None:
    entry = load_uploaded(uploaded)
    uploaded.wire.happens("^GET /download.*_ledger", status=412, reason="conditionNotMet")

    assert load_uploaded(uploaded) == entry
    assert steps(uploaded) == Counter(stage=1, days=1, merge=1, quarantine=1)


@pytest.mark.parametrize(
    ("request_of", "what"),
    [
        ("^GET /download.*_ledger", {"status": 412, "reason": "conditionNotMet"}),
        (WRITE_MARKER, {"lost": True}),
        ("^POST /bigquery.*tlc_delete", {"lost": True}),
        ("^POST /bigquery.*tlc_clear", {"status": 503}),
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


def test_two_loads_of_a_month_at_once_merge_it_once(uploaded: GoogleCloud) -> None:
    at_once = threading.Barrier(2)
    for _ in range(2):
        uploaded.wire.happens(STAGE, meanwhile=lambda: at_once.wait(20))

    with ThreadPoolExecutor(2) as workers:
        entries = list(workers.map(lambda _: load_uploaded(uploaded), range(2)))

    assert entries[0].claim == entries[1].claim
    assert_loaded(uploaded)
    assert (steps(uploaded)["merge"], steps(uploaded)["quarantine"]) == (1, 1)


def test_republished_file_that_was_loaded_before_an_older_one_is_merged_comes_back(
    uploaded: GoogleCloud, tmp_path: Path
) -> None:
    merge = Held(uploaded, MERGE)
    with ThreadPoolExecutor(1) as worker:
        older = worker.submit(load_uploaded, uploaded)
        assert merge.came.wait(20)
        load_lines(uploaded, ON_OTHER_DAYS, tmp_path)
        merge.may_go.set()
        assert older.result(60).rows_loaded == 7

    assert_loaded(uploaded, rows=7, aside=0)


def test_merge_of_a_dead_worker_cannot_undo_a_later_load(uploaded: GoogleCloud, tmp_path: Path) -> None:
    merge, looked_for = Held(uploaded, "^RUN tlc_merge"), "^GET /bigquery.*jobs/tlc_merge"
    uploaded.wire.happens(looked_for, status=403, reason="accessDenied")
    with pytest.raises(PipelineError):
        load_uploaded(uploaded)
    with ThreadPoolExecutor(1) as worker:
        load = worker.submit(load_lines, uploaded, ON_OTHER_DAYS, tmp_path)
        eventually(lambda: len(uploaded.wire.seen(looked_for)) > 1 or load.done())
        merge.may_go.set()
        load.result(60)

    assert_loaded(uploaded, rows=7, aside=0)


def test_month_forgotten_while_it_is_merged_leaves_nothing_that_the_next_load_does_not_replace(
    uploaded: GoogleCloud, tmp_path: Path
) -> None:
    uploaded.wire.happens("^POST /bigquery.*tlc_merge", meanwhile=lambda: forget_month(uploaded))
    with pytest.raises(PipelineError, match="was removed before it was loaded; run again"):
        load_uploaded(uploaded)
    assert uploaded.marker()["finished_at"] is None

    load_lines(uploaded, ON_OTHER_DAYS, tmp_path)
    assert_loaded(uploaded, rows=7, aside=0)


def test_month_loaded_while_it_is_forgotten_is_not_said_to_be_there(uploaded: GoogleCloud, tmp_path: Path) -> None:
    load_uploaded(uploaded)
    uploaded.wire.happens("^POST /bigquery.*tlc_delete", meanwhile=lambda: load_uploaded(uploaded))

    with pytest.raises(PipelineError, match="green/2019-01 is being loaded into BigQuery right now; forget it when"):
        forget_month(uploaded)
    assert uploaded.marker()["finished_at"] is None

    load_lines(uploaded, LINES, tmp_path)
    assert_loaded(uploaded)


def test_dearer_query_than_allowed_is_not_run(uploaded: GoogleCloud) -> None:
    frugal = replace(uploaded, place=replace(uploaded.place, maximum_bytes_billed=10))

    with pytest.raises(PipelineError) as failure:
        load_uploaded(frugal)
    assert str(failure.value).endswith("raise [gcp] maximum_bytes_billed if that is meant to be")
    assert "limit for bytes billed: 10" in str(failure.value)
    assert_not_loaded(uploaded)

    load_uploaded(uploaded)
    assert_loaded(uploaded)


def test_queries_may_be_allowed_any_number_of_bytes(uploaded: GoogleCloud) -> None:
    load_uploaded(replace(uploaded, place=replace(uploaded.place, maximum_bytes_billed=0)))

    assert_loaded(uploaded)


def test_table_of_others_is_left_alone(uploaded: GoogleCloud) -> None:
    uploaded.rows("CREATE OR REPLACE TABLE green_tripdata (unique_row_id STRING, mine INT64)")

    with pytest.raises(PipelineError, match=r"green_tripdata is there already and is not the one that .*green\.yaml"):
        load_uploaded(uploaded)
    assert steps(uploaded)["stage"] == 0


def test_marker_of_others_is_left_alone(uploaded: GoogleCloud) -> None:
    with contextlib.closing(uploaded.place.storage()) as client:
        client.bucket(uploaded.place.bucket).blob(MARKER).upload_from_string('{"mine": true}')

    with pytest.raises(PipelineError, match=rf"{MARKER} is not a marker of this pipeline; remove it and run again"):
        load_uploaded(uploaded)


def test_bigquery_that_does_not_answer_is_asked_again(uploaded: GoogleCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "REQUEST_SECONDS", 0.5)
    answer = Held(uploaded, "^GET /bigquery.*jobs/tlc_merge")
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


class Held:
    """Keeps a request from being served, or a job from running, until it may."""

    def __init__(self, cloud: GoogleCloud, request: str) -> None:
        self.came, self.may_go = threading.Event(), threading.Event()
        cloud.wire.happens(request, meanwhile=self._hold)

    def _hold(self) -> None:
        self.came.set()
        self.may_go.wait(60)
