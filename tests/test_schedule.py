"""`pipeline schedule`: catching up with whatever is published and missing, once, when due, and when it was missed."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, execute, publish, settings, start_command
from http_source import Fault, HttpSource
from waiting import MARKER, eventually, held, until_it_waits

from pipeline.schedule import catch_ups
from pipeline.warehouses.postgres.connection import PostgresDatabase

NOW = ("schedule", "--taxi", "green", "--once")
LONG_AGO = "2024-01-01T00:00:00+00:00"


def loaded(database: PostgresDatabase) -> list[str]:
    if execute(database, "SELECT to_regclass('load_ledger')") == [(None,)]:
        return []
    return [key for (key,) in execute(database, "SELECT partition_key FROM load_ledger ORDER BY 1")]


@pytest.fixture
def environment(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> dict[str, str]:
    return settings(tmp_path, database, mirror)


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """The file that tells when the last catch-up with green began."""
    file = tmp_path / "data" / "schedule" / "green"
    file.parent.mkdir(parents=True)
    return file


@contextlib.contextmanager
def kept(**environment: str) -> Iterator[subprocess.Popen[str]]:
    """A schedule that is kept until the block ends."""
    process = start_command("pipeline", "schedule", "--taxi", "green", **environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


@contextlib.contextmanager
def at_january(
    luigi: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> Iterator[subprocess.Popen[str]]:
    """A catch-up whose load of January waits right before its commit until the block ends; February is loaded."""
    publish(mirror, "2019-02")
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-02")
    with held(database, MARKER):
        process = start_command("pipeline", *NOW, **environment)
        until_it_waits(database, "INSERT INTO")
        yield process


def until_it_says(words: str, process: subprocess.Popen[str]) -> bool:
    assert process.stdout
    return any(words in line for line in process.stdout)


def stopped(process: subprocess.Popen[str]) -> str:
    """All that it said, after SIGTERM has ended it well."""
    process.terminate()
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0, said
    return said


def test_catches_up_with_what_is_published_and_lets_the_newest_months_come_later(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02", "2019-04")

    first = pipeline(*NOW)
    assert first.returncode == 0, first.stderr
    assert loaded(database) == ["green/2019-01", "green/2019-02", "green/2019-04"]
    assert "WARNING: green: the source lacks 2019-03, but has later months\n" in first.stderr
    assert re.search(r"green: not published yet: 2019-05 … \d{4}-\d\d \(\d+ months\)\n", first.stderr)

    publish(mirror, "2019-05")
    second = pipeline(*NOW)
    assert second.returncode == 0, second.stderr
    assert loaded(database)[-1] == "green/2019-05"
    assert "running   LoadTripdata(taxi=green, month=2019-04)" not in second.stderr


def test_catches_up_from_a_site_with_the_task_months_and_workers_of_the_settings(
    pipeline: Run, database: PostgresDatabase, mirror: Path, site: HttpSource, tmp_path: Path
) -> None:
    publish(mirror, "2019-02", "2019-03")
    for file in (mirror / "green").iterdir():
        site.files[f"/green/{file.name}"] = file.read_bytes()
    site.faults = [Fault(status=503)]

    done = pipeline(
        *NOW,
        PIPELINE__SOURCE__BASE_URL=site.url,
        PIPELINE__SCHEDULE__START="2019-02",
        PIPELINE__SCHEDULE__TASK="ExtractTripdata",
        PIPELINE__SCHEDULE__PARAMETERS='{"force": true}',
        PIPELINE__SCHEDULE__WORKERS="2",
    )

    assert done.returncode == 0, done.stderr
    assert "--workers 2" in done.stderr and '"force": true' in done.stderr
    assert [path.name for path in sorted((tmp_path / "data" / "raw" / "green").glob("*.gz"))] == [
        "green_tripdata_2019-02.csv.gz",
        "green_tripdata_2019-03.csv.gz",
    ]
    assert loaded(database) == []


def test_failures_are_told_by_the_exit_code(pipeline: Run, mirror: Path, site: HttpSource) -> None:
    empty = pipeline(*NOW, PIPELINE__SCHEDULE__START="2021-05")
    assert empty.returncode == 35
    assert "none of the months 2021-05 … " in empty.stderr

    site.afterwards = Fault(status=403)
    refused = pipeline(*NOW, PIPELINE__SOURCE__BASE_URL=site.url)
    assert refused.returncode == 35
    assert "blocked: " in refused.stderr and "403 Forbidden" in refused.stderr
    assert "Traceback" not in empty.stderr + refused.stderr

    (mirror / "green" / "green_tripdata_2019-01.csv.gz").write_bytes(b"not gzip")
    assert pipeline(*NOW).returncode == 30
    wrong = pipeline(*NOW, PIPELINE__SCHEDULE__START="spring")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "pipeline: [schedule] start: 'spring' is not a month such as 2019-01\n",
    )


def test_waits_for_the_first_firing_and_says_when_that_is(
    environment: dict[str, str], database: PostgresDatabase, last: Path
) -> None:
    with kept(**environment) as process:
        eventually(last.exists)
        said = stopped(process)

    assert re.search(r"green: next at \d{4}-\d\d-\d\d 09:00 -0[45]:00 E[SD]T\n", said)
    assert loaded(database) == []


def test_firings_missed_while_it_did_not_run_are_made_up_for_once(
    environment: dict[str, str], database: PostgresDatabase, last: Path
) -> None:
    last.write_text(LONG_AGO)
    with kept(**environment) as process:
        eventually(lambda: last.read_text() not in ("", LONG_AGO))
        said = stopped(process)

    assert "the firing of 2024-01-01 09:00 -05:00 EST was missed" in said
    assert said.count("catching up") == 1
    assert loaded(database) == ["green/2019-01"]

    with kept(**environment) as process:
        assert until_it_says("next at", process)
        assert "missed" not in stopped(process)


def test_failed_catch_up_is_tried_again(
    environment: dict[str, str], database: PostgresDatabase, mirror: Path, last: Path
) -> None:
    (mirror / "green" / "green_tripdata_2019-01.csv.gz").rename(mirror / "away")
    last.write_text(LONG_AGO)
    with kept(**environment, PIPELINE__SCHEDULE__RETRY_MINUTES="0.001") as process:
        assert until_it_says("ended with exit code 35", process)
        (mirror / "away").rename(mirror / "green" / "green_tripdata_2019-01.csv.gz")
        eventually(lambda: last.read_text() not in ("", LONG_AGO))
        stopped(process)

    assert loaded(database) == ["green/2019-01"]


def test_stop_lets_the_month_at_hand_be_finished_and_begins_no_other(
    luigi: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path, last: Path
) -> None:
    publish(mirror, "2018-12", "2019-02")
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-02")
    last.write_text(LONG_AGO)
    with kept(**environment, PIPELINE__SCHEDULE__START="2018-12") as process:
        with held(database, MARKER):  # January's load, which comes before December's
            until_it_waits(database, "INSERT INTO")
            process.terminate()
            assert until_it_says("stopping after the months that are being loaded", process)
        process.wait(timeout=20)

    assert process.returncode == 0
    assert loaded(database) == ["green/2019-01", "green/2019-02"]
    assert last.read_text() == LONG_AGO  # December is still to be caught up with


def test_second_sigterm_ends_it_at_once(
    luigi: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> None:
    with at_january(luigi, environment, database, mirror) as process:
        process.terminate()
        assert until_it_says("stop it again to end at once", process)
        process.terminate()
        process.communicate(timeout=20)

    assert process.returncode == 128 + signal.SIGTERM
    assert loaded(database) == ["green/2019-02"]


def test_two_catch_ups_do_not_overlap_even_when_the_first_has_lost_its_schedule(
    luigi: Run, pipeline: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> None:
    with at_january(luigi, environment, database, mirror) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=20)

        second = pipeline(*NOW)
        assert second.returncode == 10
        assert "another process is catching up" in second.stderr
    eventually(lambda: loaded(database) == ["green/2019-01", "green/2019-02"])
    first.communicate(timeout=20)


def test_record_is_replaced_as_a_whole_and_stays_locked(tmp_path: Path) -> None:
    first, second = (datetime.datetime(2024, 1, day, tzinfo=datetime.UTC) for day in (1, 2))
    record = dataclasses.replace(catch_ups(["green"])[0], folder=tmp_path)
    record.save_success(first)
    with (tmp_path / "green").open() as reader, record.locked() as lock:
        record.save_success(second)
        # Not rewritten in place, so that a crash in between leaves one of the two; the lock is not on what is replaced.
        assert datetime.datetime.fromisoformat(reader.read()) == first
        with dataclasses.replace(record).locked() as other:
            assert lock is not None and other is None
    assert record.last_success() == second


def test_dry_run_that_ends_before_it_begins_is_refused(pipeline: Run) -> None:
    failed = pipeline("schedule", "--dry-run", "--from", "2027-01-01", "--to", "2026-01-01")

    assert (failed.returncode, failed.stderr) == (1, "pipeline: --to must be after --from\n")
