"""`pipeline schedule`: loading the published months that are missing, once, when due, and after a missed firing."""

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
from golden_releases import write_release
from http_source import Fault, HttpSource
from trips import HEADER, trip
from waiting import INSERT_JANUARY_MARKER, eventually, lock_held, wait_until_blocked

from pipeline.datasets import dataset_named
from pipeline.sample import write_month
from pipeline.schedule import CatchUp, catch_ups, daemon, read_time, write_time
from pipeline.warehouses.postgres.connection import PostgresDatabase

CATCH_UP_ONCE = ("schedule", "--taxi", "green", "--once")
LONG_AGO = "2024-01-01T00:00:00+00:00"


def loaded_months(database: PostgresDatabase) -> list[str]:
    if execute(database, "SELECT to_regclass('load_ledger')") == [(None,)]:
        return []
    return [key for (key,) in execute(database, "SELECT partition_key FROM load_ledger ORDER BY 1")]


@pytest.fixture
def environment(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> dict[str, str]:
    return settings(tmp_path, database, mirror)


@pytest.fixture
def last_catch_up(tmp_path: Path) -> Path:
    """The file with the time at which the last successful catch-up with green began."""
    file = tmp_path / "data" / "schedule" / "green"
    file.parent.mkdir(parents=True)
    return file


@contextlib.contextmanager
def running_schedule(**environment: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `pipeline schedule` until the block ends."""
    process = start_command("pipeline", "schedule", "--taxi", "green", **environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


@contextlib.contextmanager
def catch_up_held_at_january(
    luigi: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> Iterator[subprocess.Popen[str]]:
    """Runs a catch-up whose load of January waits right before its commit until the block ends; February is loaded."""
    publish(mirror, "2019-02")
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-02")
    with lock_held(database, INSERT_JANUARY_MARKER):
        process = start_command("pipeline", *CATCH_UP_ONCE, **environment)
        wait_until_blocked(database, "INSERT INTO")
        yield process


def prints(words: str, process: subprocess.Popen[str]) -> bool:
    """Reads the output until a line contains the words, and returns whether one did."""
    assert process.stdout
    return any(words in line for line in process.stdout)


def stop(process: subprocess.Popen[str]) -> str:
    """Sends SIGTERM, on which the process must end with exit code 0, and returns its output."""
    process.terminate()
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    return output


def test_catch_up_loads_published_months_and_leaves_later_ones_to_the_next_run(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02", "2019-04")

    first = pipeline(*CATCH_UP_ONCE)
    assert first.returncode == 0, first.stderr
    assert loaded_months(database) == ["green/2019-01", "green/2019-02", "green/2019-04"]
    assert "WARNING: green: the source lacks 2019-03, but has later months\n" in first.stderr
    assert re.findall(r"^[-\d]{10} [:\d]{8},", first.stderr, re.MULTILINE) == []  # as the times of the runs' own lines
    assert re.search(r"green: not published yet: 2019-05 … \d{4}-\d\d \(\d+ months\)\n", first.stderr)

    publish(mirror, "2019-05")
    second = pipeline(*CATCH_UP_ONCE)
    assert second.returncode == 0, second.stderr
    assert loaded_months(database)[-1] == "green/2019-05"
    assert "running   LoadTripdata(taxi=green, month=2019-04)" not in second.stderr


def test_catch_up_from_one_source_leaves_out_months_that_only_another_has(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02")
    write_month(dataset_named("green"), datetime.date(2019, 3, 1), 100, mirror, "tlc")

    done = pipeline(*CATCH_UP_ONCE, PIPELINE__SCHEDULE__PARAMETERS='{"source": "mirror"}')

    assert done.returncode == 0, done.stderr
    assert loaded_months(database) == ["green/2019-01", "green/2019-02"]
    assert "green: not published yet: 2019-03 …" in done.stderr


def test_catch_up_fails_if_its_source_has_nothing_although_another_has(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    environment = {"PIPELINE__SCHEDULE__PARAMETERS": '{"source": "mirror"}'}
    assert pipeline(*CATCH_UP_ONCE, **environment).returncode == 0
    write_month(dataset_named("green"), datetime.date(2019, 1, 1), 100, mirror, "tlc")
    (mirror / "green/green_tripdata_2019-01.csv.gz").unlink()

    failed = pipeline(*CATCH_UP_ONCE, **environment)

    assert failed.returncode != 0 and "none of the months 2019-01 …" in failed.stderr, failed.stderr


def test_catch_up_loads_the_corrected_file_of_a_month_that_could_not_be_loaded(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    file = mirror / "green/green_tripdata_2019-01.csv.gz"
    corrected = file.read_bytes()
    write_release(file, [HEADER, trip(0), trip(1, fare_amount="abc")])
    for _ in range(2):  # the second one does not download the same file again
        failed = pipeline(*CATCH_UP_ONCE)
        assert failed.returncode == 30 and "line 3, column fare_amount" in failed.stderr
    assert "running   ExtractTripdata" not in failed.stderr

    file.write_bytes(corrected)
    done = pipeline(*CATCH_UP_ONCE)

    assert done.returncode == 0, done.stderr
    assert execute(database, "SELECT rows_loaded FROM load_ledger") == [(500,)]


def test_catch_up_from_a_site_uses_task_months_and_workers_of_the_settings(
    pipeline: Run, database: PostgresDatabase, mirror: Path, site: HttpSource, tmp_path: Path
) -> None:
    publish(mirror, "2019-02", "2019-03")
    for file in (mirror / "green").iterdir():
        site.files[f"/green/{file.name}"] = file.read_bytes()
    site.faults = [Fault(status=503)]

    done = pipeline(
        *CATCH_UP_ONCE,
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
    assert loaded_months(database) == []


def test_failures_are_reported_by_the_exit_code(pipeline: Run, mirror: Path, site: HttpSource) -> None:
    empty = pipeline(*CATCH_UP_ONCE, PIPELINE__SCHEDULE__START="2021-05")
    assert empty.returncode == 35
    assert "none of the months 2021-05 … " in empty.stderr

    assert pipeline("load", "green", "2019-01").returncode == 0
    (mirror / "green").rename(mirror / "elsewhere")
    gone = pipeline(*CATCH_UP_ONCE)
    (mirror / "elsewhere").rename(mirror / "green")
    assert gone.returncode == 35, "an unavailable source must not look like one without new months"
    assert "none of the months 2019-01 … " in gone.stderr and "has later months" not in gone.stderr
    assert pipeline("forget", "green", "2019-01").returncode == 0

    site.later_fault = Fault(status=403)
    refused = pipeline(*CATCH_UP_ONCE, PIPELINE__SOURCE__BASE_URL=site.url)
    assert refused.returncode == 35
    assert "blocked: " in refused.stderr and "403 Forbidden" in refused.stderr
    assert "Traceback" not in empty.stderr + refused.stderr

    (mirror / "green" / "green_tripdata_2019-01.csv.gz").write_bytes(b"not gzip")
    assert pipeline(*CATCH_UP_ONCE).returncode == 30
    wrong = pipeline(*CATCH_UP_ONCE, PIPELINE__SCHEDULE__START="spring")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "pipeline: [schedule] start: 'spring' is not a month such as 2019-01\n",
    )


def test_schedule_prints_the_next_firing_and_waits_for_it(
    environment: dict[str, str], database: PostgresDatabase, last_catch_up: Path
) -> None:
    with running_schedule(**environment) as process:
        eventually((last_catch_up.parent / ".first_starts" / "green").exists)
        output = stop(process)

    assert not last_catch_up.exists()  # no catch-up has succeeded
    assert re.search(r"green: next at \d{4}-\d\d-\d\d 09:00 -0[45]:00 E[SD]T\n", output)
    assert loaded_months(database) == []


def test_firings_missed_while_no_schedule_ran_cause_one_catch_up(
    environment: dict[str, str], database: PostgresDatabase, last_catch_up: Path
) -> None:
    last_catch_up.write_text(LONG_AGO)
    with running_schedule(**environment) as process:
        eventually(lambda: last_catch_up.read_text() not in ("", LONG_AGO))
        output = stop(process)

    assert "the firing of 2024-01-01 09:00 -05:00 EST was missed" in output
    assert output.count("catching up") == 1
    assert loaded_months(database) == ["green/2019-01"]

    with running_schedule(**environment) as process:
        assert prints("next at", process)
        assert "missed" not in stop(process)


def test_firing_missed_since_the_first_start_causes_a_catch_up(
    environment: dict[str, str], database: PostgresDatabase, last_catch_up: Path
) -> None:
    first_start = last_catch_up.parent / ".first_starts" / "green"
    first_start.parent.mkdir()
    first_start.write_text(LONG_AGO)
    with running_schedule(**environment) as process:
        eventually(last_catch_up.exists)
        assert "the firing of 2024-01-01 09:00 -05:00 EST was missed" in stop(process)

    assert first_start.read_text() == LONG_AGO
    assert loaded_months(database) == ["green/2019-01"]


@pytest.mark.parametrize("days_ahead", [0, 30], ids=["the machine slept", "the clock was ahead and was set right"])
def test_firing_is_not_missed_when_the_time_jumps(
    environment: dict[str, str], mirror: Path, monkeypatch: pytest.MonkeyPatch, days_ahead: int
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    [catch_up] = catch_ups(["green"])
    ran: list[str] = []
    started = datetime.datetime.now(datetime.UTC)
    monkeypatch.setattr(daemon, "_now", lambda: started + datetime.timedelta(days=days_ahead))

    class Machine(daemon.Runner):
        """On which two days pass at each look, while the process does not run, and so does not wait for them either."""

        def __init__(self) -> None:  # without the signals of a process
            self.looks = 0

        stopping = False

        def run(self, catch_up: CatchUp) -> int:
            ran.append(catch_up.name)
            return 0

        def wait_for_stop(self, seconds: float = 0) -> bool:
            assert seconds <= 60
            self.looks += 1
            later = started + datetime.timedelta(days=2 * self.looks)
            monkeypatch.setattr(daemon, "_now", lambda: later)
            return bool(ran) or self.looks > 3

    daemon.run_forever([catch_up], Machine(), retry_minutes=0)

    assert ran == ["green"]


def test_failed_catch_up_is_retried(
    environment: dict[str, str], database: PostgresDatabase, mirror: Path, last_catch_up: Path
) -> None:
    (mirror / "green" / "green_tripdata_2019-01.csv.gz").rename(mirror / "away")
    last_catch_up.write_text(LONG_AGO)
    with running_schedule(**environment, PIPELINE__SCHEDULE__RETRY_MINUTES="0.001") as process:
        assert prints("ended with exit code 35", process)
        (mirror / "away").rename(mirror / "green" / "green_tripdata_2019-01.csv.gz")
        eventually(lambda: last_catch_up.read_text() not in ("", LONG_AGO))
        stop(process)

    assert loaded_months(database) == ["green/2019-01"]


def test_catch_up_whose_success_cannot_be_recorded_is_retried(
    environment: dict[str, str], database: PostgresDatabase, mirror: Path, site: HttpSource, last_catch_up: Path
) -> None:
    last_catch_up.write_text(LONG_AGO)
    path = "/green/green_tripdata_2019-01.csv.gz"
    site.files[path], site.faults = (mirror / path[1:]).read_bytes(), [Fault(hold=True)]
    environment |= {"PIPELINE__SOURCE__BASE_URL": site.url, "PIPELINE__SCHEDULE__START": "2019-01"}
    with running_schedule(**environment, PIPELINE__SCHEDULE__RETRY_MINUTES="0.001") as process:
        eventually(lambda: site.requests != [])
        last_catch_up.unlink()
        last_catch_up.mkdir()  # cannot be replaced by a file, like one on a full disk
        site.gate.set()
        assert prints(f"ERROR: green: {last_catch_up}: Is a directory; fix that, or change [storage] root", process)
        last_catch_up.rmdir()
        eventually(last_catch_up.is_file)
        assert "Traceback" not in stop(process)

    assert loaded_months(database) == ["green/2019-01"]


def test_sigterm_lets_the_current_load_finish_and_starts_no_other(
    luigi: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path, last_catch_up: Path
) -> None:
    publish(mirror, "2018-12", "2019-02")
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-02")
    last_catch_up.write_text(LONG_AGO)
    with running_schedule(**environment, PIPELINE__SCHEDULE__START="2018-12") as process:
        with lock_held(database, INSERT_JANUARY_MARKER):  # January's load waits; it runs before December's
            wait_until_blocked(database, "INSERT INTO")
            process.terminate()
            assert prints("stopping after the months that are being loaded", process)
        process.wait(timeout=20)

    assert process.returncode == 0
    assert loaded_months(database) == ["green/2019-01", "green/2019-02"]
    assert last_catch_up.read_text() == LONG_AGO  # December still has to be loaded


def test_second_sigterm_ends_the_process_immediately(
    luigi: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> None:
    with catch_up_held_at_january(luigi, environment, database, mirror) as process:
        process.terminate()
        assert prints("stop it again to end at once", process)
        process.terminate()
        process.communicate(timeout=20)

    assert process.returncode == 128 + signal.SIGTERM
    assert loaded_months(database) == ["green/2019-02"]


def test_catch_ups_do_not_overlap_even_if_the_process_of_the_first_was_killed(
    luigi: Run, pipeline: Run, environment: dict[str, str], database: PostgresDatabase, mirror: Path
) -> None:
    with catch_up_held_at_january(luigi, environment, database, mirror) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=20)

        second = pipeline(*CATCH_UP_ONCE)
        assert second.returncode == 10
        assert "another process is catching up" in second.stderr
        assert pipeline(*CATCH_UP_ONCE, PIPELINE__RETCODE__ALREADY_RUNNING="71").returncode == 71
    eventually(lambda: loaded_months(database) == ["green/2019-01", "green/2019-02"])
    first.communicate(timeout=20)


def test_record_is_replaced_atomically_and_stays_locked(tmp_path: Path) -> None:
    first, second = (datetime.datetime(2024, 1, day, tzinfo=datetime.UTC) for day in (1, 2))
    record = dataclasses.replace(catch_ups(["green"])[0], folder=tmp_path)
    write_time(record.last_success, first)
    with (tmp_path / "green").open() as reader, record.locked() as lock:
        write_time(record.last_success, second)
        # The file is replaced and not rewritten, so that a crash leaves one of the two; the lock is on another file.
        assert datetime.datetime.fromisoformat(reader.read()) == first
        with dataclasses.replace(record).locked() as other:
            assert lock is not None and other is None
    assert read_time(record.last_success) == second


def test_record_that_was_edited_by_hand_may_end_with_a_newline(tmp_path: Path) -> None:
    time = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    (tmp_path / "green").write_text(f"{time.isoformat()}\n")
    assert read_time(tmp_path / "green") == time


def test_dry_run_that_ends_before_it_begins_is_refused(pipeline: Run) -> None:
    failed = pipeline("schedule", "--dry-run", "--from", "2027-01-01", "--to", "2026-01-01")

    assert (failed.returncode, failed.stderr) == (1, "pipeline: --to must be after --from\n")
