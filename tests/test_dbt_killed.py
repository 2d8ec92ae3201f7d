"""Killed builds: dbt ends with them, and the next build completes what is missing."""

from __future__ import annotations

import datetime
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Run, execute, settings, start_command
from golden_releases import write_release
from models import load_release
from trips import HEADER, trip
from waiting import eventually, lock_held, wait_for_sessions_to_end, wait_until_blocked

from pipeline.warehouses.postgres.connection import PostgresDatabase

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("golden_mirror")]

MARCH = datetime.date(2019, 3, 1)
BUILD = ("DbtBuild", "--warehouse", "postgres")
LOAD = ("LoadTripdata", "--taxi", "green", "--month")
FACTS = "SELECT filename, ctid, tableoid FROM fact_trips ORDER BY 1, 2"


def test_dbt_ends_if_the_build_is_killed(luigi: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    luigi(*LOAD, "2019-01")
    with lock_held(database, "LOCK TABLE green_tripdata"):
        build = start_command("luigi", "--module", "pipeline", *BUILD, **settings(tmp_path, database, mirror))
        wait_until_blocked(database, r"/\* .*create view")
        build.kill()
    wait_for_sessions_to_end(database, "dbt")
    build.communicate()
    assert execute(database, "SELECT finished_at FROM dbt_build") == [(None,)]

    again = luigi(*BUILD)
    assert again.returncode == 0, again.stderr
    assert execute(database, "SELECT count(*) FROM fact_trips") == [(6,)]


@pytest.mark.parametrize(
    ("lock", "waiting_statement"),
    [
        ("LOCK TABLE green_tripdata_2019_03", "create table .*fact_trips_green_tripdata_2019_03_n"),
        ("LOCK TABLE fact_trips IN SHARE MODE", "alter table .*fact_trips.* attach partition"),
    ],
    ids=["while the partition is filled", "before the partition is attached"],
)
def test_month_is_not_in_fact_trips_if_dbt_is_killed_while_writing_it(
    luigi: Run, built: PostgresDatabase, mirror: Path, tmp_path: Path, lock: str, waiting_statement: str
) -> None:
    write_release(mirror / "green/green_tripdata_2019-03.csv.gz", [HEADER, trip(0, MARCH), trip(1, MARCH)])
    load_release(built, mirror, tmp_path, "green", MARCH)
    before, relations = execute(built, FACTS), facts_and_partitions(built)

    with lock_held(built, lock):
        command = ("luigi", "--module", "pipeline", *BUILD)
        # Not forked, so that dbt is a child of the process that is started here.
        build = start_command(*command, process=subprocess.Popen, **settings(tmp_path, built, mirror))
        wait_until_blocked(built, rf"/\* .*{waiting_statement}")
        [dbt] = psutil.Process(build.pid).children()
        dbt.send_signal(signal.SIGKILL)
        output, _ = build.communicate(timeout=30)
    assert build.returncode == 30, output
    assert "Traceback" not in output, output
    wait_for_sessions_to_end(built, "dbt")
    assert execute(built, FACTS) == before
    assert facts_and_partitions(built) == relations
    assert execute(built, "SELECT filename FROM built_files ORDER BY 1") == [
        (f"green_tripdata_2019-0{month}.csv",) for month in (1, 2)
    ]

    again = luigi(*BUILD)
    assert again.returncode == 0, again.stderr
    after = execute(built, FACTS)
    assert after[: len(before)] == before  # the months that were already built are unchanged
    assert [row[0] for row in after[len(before) :]] == ["green_tripdata_2019-03.csv"] * 2


def test_file_written_by_two_dbt_runs_at_the_same_time_is_counted_once(
    luigi: Run, built: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    """A build goes on for a while if the session that locks the models is ended, as a log advises users to do."""
    write_release(mirror / "green/green_tripdata_2019-03.csv.gz", [HEADER, trip(0, MARCH), trip(1, MARCH)])
    load_release(built, mirror, tmp_path, "green", MARCH)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'trips_by_hour'"
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT pid = pg_backend_pid()"
    environment = settings(tmp_path, built, mirror)

    with lock_held(built, "LOCK TABLE trips_by_hour IN SHARE MODE"):
        first = start_command("luigi", "--module", "pipeline", *BUILD, **environment)
        eventually(lambda: len(execute(built, waiting)) == 1)
        assert execute(built, end) == [(True,)]
        second = start_command("pipeline", "dbt", "run", "--select", "trips_by_hour", **environment)
        eventually(lambda: len(execute(built, waiting)) == 2)
    outputs = [build.communicate(timeout=60)[0] for build in (first, second)]

    assert (first.returncode, second.returncode) == (30, 0), outputs
    assert execute(built, "SELECT sum(trips) FROM trips_by_hour WHERE filename ~ '2019-03'") == [(2,)]


def facts_and_partitions(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    return execute(
        database,
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relname LIKE 'fact_trips%%' ORDER BY 1",
        database.schema,
    )
