"""Builds that are killed: dbt ends with them, and the next build does what is missing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Run, execute, settings, start_command
from waiting import held, until_it_waits, until_its_sessions_end

from pipeline.warehouses.postgres.connection import PostgresDatabase

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("golden_mirror")]

BUILD = ("DbtBuild", "--warehouse", "postgres")
LOAD = ("LoadTripdata", "--taxi", "green", "--month")
FACTS = "SELECT filename, ctid, tableoid FROM fact_trips ORDER BY 1, 2"


def test_killed_build_takes_dbt_with_it(luigi: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    luigi(*LOAD, "2019-01")
    with held(database, "LOCK TABLE green_tripdata"):
        build = start_command("luigi", "--module", "pipeline", *BUILD, **settings(tmp_path, database, mirror))
        until_it_waits(database, r"/\* .*create view")
        build.kill()
    until_its_sessions_end(database, "dbt")
    build.communicate()
    assert execute(database, "SELECT finished_at FROM dbt_build") == [(None,)]

    again = luigi(*BUILD)
    assert again.returncode == 0, again.stderr
    assert execute(database, "SELECT count(*) FROM fact_trips") == [(6,)]


@pytest.mark.parametrize(
    ("lock", "waiting"),
    [
        ("LOCK TABLE green_tripdata_2019_02", "create table .*fact_trips_green_tripdata_2019_02_n"),
        ("LOCK TABLE fact_trips IN SHARE MODE", "alter table .*fact_trips.* attach partition"),
    ],
    ids=["while it is filled", "before it takes its place"],
)
def test_month_is_not_in_fact_trips_when_dbt_is_killed_as_it_writes_it(
    luigi: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path, lock: str, waiting: str
) -> None:
    luigi(*LOAD, "2019-01")
    luigi(*BUILD)
    luigi(*LOAD, "2019-02")
    before, relations = execute(database, FACTS), facts_and_partitions(database)

    with held(database, lock):
        build = start_command("luigi", "--module", "pipeline", *BUILD, **settings(tmp_path, database, mirror))
        until_it_waits(database, rf"/\* .*{waiting}")
        [dbt] = psutil.Process(build.pid).children()
        dbt.send_signal(signal.SIGKILL)
        output, _ = build.communicate(timeout=30)
    assert build.returncode == 30, output
    assert "Traceback" not in output, output
    until_its_sessions_end(database, "dbt")
    assert execute(database, FACTS) == before
    assert facts_and_partitions(database) == relations
    assert execute(database, "SELECT filename FROM built_files") == [("green_tripdata_2019-01.csv",)]

    again = luigi(*BUILD)
    assert again.returncode == 0, again.stderr
    after = execute(database, FACTS)
    assert after[: len(before)] == before  # the month that was there is as it was
    assert [row[0] for row in after[len(before) :]] == ["green_tripdata_2019-02.csv"] * 2


def facts_and_partitions(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    return execute(
        database,
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relname LIKE 'fact_trips%%' ORDER BY 1",
        database.schema,
    )
