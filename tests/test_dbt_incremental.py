"""Builds process only changed files: after months are added, republished or removed, the marts equal a full refresh."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import JANUARY, execute
from golden_releases import MARTS, ZONES, write_release
from models import build_models, load_release, mart_rows
from trips import HEADER, trip

from pipeline.datasets import Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.sample import write_month
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import forget

MARCH = datetime.date(2019, 3, 1)
NODES_BY_FILE = {
    *("changed_files", "fact_trips", "trips_by_hour", "int_zone_revenue_by_file", "file_quality"),
    *("dm_monthly_zone_revenue", "facts_hold", "monthly_revenue_is_that_of_the_files", "built_files"),
}
pytestmark = [pytest.mark.models, pytest.mark.usefixtures("golden_mirror")]


def test_incremental_builds_give_the_same_marts_as_a_full_refresh(
    built: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    untouched = row_versions(built, "green_tripdata_2019-02.csv")

    load_release(built, mirror, tmp_path, "yellow")  # a new file
    write_release(mirror / "green/green_tripdata_2019-01.csv.gz", [HEADER, trip(0, total_amount="1"), trip(9)])
    load_release(built, mirror, tmp_path, "green")  # a republished file
    nodes = build_models(built, tmp_path / "dbt")
    assert set(nodes) == NODES_BY_FILE
    by_file = "SELECT filename, count(*) FROM fact_trips GROUP BY 1 ORDER BY 1"
    assert execute(built, by_file) == [
        ("green_tripdata_2019-01.csv", 2),
        ("green_tripdata_2019-02.csv", 2),
        ("yellow_tripdata_2019-01.csv", 2),
    ]
    assert row_versions(built, "green_tripdata_2019-02.csv") == untouched

    forget(built, Release(dataset_named("yellow"), JANUARY))  # a removed file
    build_models(built, tmp_path / "dbt of another machine")
    assert execute(built, by_file) == [("green_tripdata_2019-01.csv", 2), ("green_tripdata_2019-02.csv", 2)]
    assert row_versions(built, "green_tripdata_2019-02.csv") == untouched
    incremental = all_marts(built)

    build_models(built, tmp_path / "dbt", full_refresh=True)
    assert all_marts(built) == incremental
    assert row_versions(built, "green_tripdata_2019-02.csv") != untouched


def test_replaced_partitions_are_dropped_in_other_transactions_than_those_that_replace_them(
    built: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    """In the same transaction, 600 partitions would need more locks than the server has."""
    execute(built, "CREATE TABLE fact_trips_o (filename text) PARTITION BY LIST (filename)")
    execute(built, "CREATE TABLE left_by_a_killed_build PARTITION OF fact_trips_o FOR VALUES IN ('killed')")
    record_changed_tables(built)

    build_models(built, tmp_path / "dbt", full_refresh=True)
    partitions = [f"fact_trips_green_tripdata_2019_0{month}_o" for month in (1, 2)]
    assert {*partitions, "fact_trips_o", "left_by_a_killed_build"} <= {name for name, _ in dropped_apart(built)}

    execute(built, "TRUNCATE changed")
    execute(built, "CREATE TABLE fact_trips_green_tripdata_2019_01_o ()")  # also left by a killed build
    load_release(built, mirror, tmp_path, "green")
    build_models(built, tmp_path / "dbt")
    assert [name for name, _ in dropped_apart(built)] == partitions[:1] * 2


@pytest.mark.parametrize("name", ["fhv", "fhvhv"])
def test_trips_without_fares_are_counted_and_are_not_in_fact_trips(
    built: PostgresDatabase, mirror: Path, tmp_path: Path, name: str
) -> None:
    write_month(dataset_named(name), MARCH, 40, mirror)
    load_release(built, mirror, tmp_path, name, MARCH)
    build_models(built, tmp_path / "dbt")

    file = f"filename = '{name}_tripdata_2019-03.csv'"
    counted = f"SELECT sum(trips), sum(total_amount), bool_or(service_type = 'Green') FROM trips_by_hour WHERE {file}"
    assert execute(built, counted) == [(40, None, False)]
    assert execute(built, f"SELECT trips, reported FROM file_quality WHERE {file}") == [(40, 40)]
    partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fact_trips'::regclass ORDER BY 1"
    green = [f"fact_trips_green_tripdata_2019_0{month}" for month in (1, 2)]
    assert [partition for (partition,) in execute(built, partitions)] == green


def dropped_apart(database: PostgresDatabase) -> list[tuple[str, str]]:
    """Returns the replaced tables that were dropped, and in which transactions; none of these changed fact_trips."""
    query = "SELECT split_part(name, '.', 2), transaction FROM changed WHERE is_dropped"
    replaced = ["%.fact_trips%\\_o", "%.left_by_a_killed_build"]
    dropped = execute(database, f"{query} AND name LIKE ANY(%s) ORDER BY 1", replaced)
    changing = execute(database, "SELECT transaction FROM changed WHERE name LIKE '%.fact_trips' AND NOT is_dropped")
    assert changing and not {transaction for _, transaction in dropped} & {transaction for (transaction,) in changing}
    assert execute(database, "SELECT relname FROM pg_class WHERE relname LIKE 'fact_trips%\\_o'") == []
    return dropped


def test_incremental_build_in_a_publication(built: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    """Rows of a published table can be deleted only if the table says what identifies them."""
    execute(built, "CREATE PUBLICATION everything FOR ALL TABLES")
    load_release(built, mirror, tmp_path, "yellow")

    assert set(build_models(built, tmp_path / "dbt")) == NODES_BY_FILE


def test_next_build_completes_a_failed_build(built: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    load_release(built, mirror, tmp_path, "yellow")
    execute(built, "ALTER TABLE trips_by_hour ADD CHECK (service_type = 'Green')")
    with pytest.raises(PipelineError, match=r"dbt build: Database Error in model trips_by_hour .*violates check"):
        build_models(built, tmp_path / "dbt")
    assert execute(built, "SELECT count(*) FROM trips_by_hour WHERE service_type = 'Yellow'") == [(0,)]

    execute(built, "ALTER TABLE trips_by_hour DROP CONSTRAINT trips_by_hour_service_type_check")
    untouched = row_versions(built, "green_tripdata_2019-02.csv")
    build_models(built, tmp_path / "dbt")
    assert execute(built, "SELECT count(*) FROM fact_trips WHERE service_type = 'Yellow'") == [(2,)]
    assert row_versions(built, "green_tripdata_2019-02.csv") == untouched


def test_changed_zones_reach_every_trip_and_a_dropped_model_is_built_completely(
    built: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    (mirror / "misc/taxi_zone_lookup.csv").write_text(ZONES.replace("Central Harlem North", "Sugar Hill"))
    load_release(built, mirror, tmp_path, "zones")
    build_models(built, tmp_path / "dbt")
    assert execute(built, "SELECT DISTINCT dropoff_zone FROM fact_trips") == [("Sugar Hill",)]

    before = all_marts(built)
    execute(built, "DROP TABLE fact_trips")

    build_models(built, tmp_path / "dbt", name="run", select="+fact_trips")

    assert all_marts(built) == before

    execute(built, "DROP VIEW stg_green_tripdata CASCADE")
    load_release(built, mirror, tmp_path, "yellow")
    build_models(built, tmp_path / "dbt")
    forget(built, Release(dataset_named("yellow"), JANUARY))
    assert set(build_models(built, tmp_path / "dbt")) == NODES_BY_FILE
    assert all_marts(built) == before
    assert execute(built, "SELECT count(*) FROM excluded_trips") == [(2,)]


def all_marts(database: PostgresDatabase) -> dict[str, list[tuple[Any, ...]]]:
    return {name: mart_rows(database, name) for name in MARTS}


def row_versions(database: PostgresDatabase, filename: str) -> list[tuple[Any, ...]]:
    """The physical places and transactions of a file's rows in fact_trips, which change if they are written again."""
    return execute(database, "SELECT ctid, tableoid, xmin FROM fact_trips WHERE filename = %s ORDER BY 1", filename)


def record_changed_tables(database: PostgresDatabase) -> None:
    """Lets the database record, from now on, which tables are changed and dropped in which transactions."""
    execute(database, "CREATE TABLE changed (name text, is_dropped boolean, transaction xid8)")
    for event, function, is_dropped in (
        ("sql_drop", "pg_event_trigger_dropped_objects", True),
        ("ddl_command_end", "pg_event_trigger_ddl_commands", False),
    ):
        execute(
            database,
            f"CREATE FUNCTION {event}() RETURNS event_trigger LANGUAGE plpgsql SET search_path = {database.schema} AS"
            f" 'BEGIN INSERT INTO changed SELECT object_identity, {is_dropped}, pg_current_xact_id()"
            f"  FROM {function}() WHERE object_type = ''table''; END'",
        )
        execute(database, f"CREATE EVENT TRIGGER {event} ON {event} EXECUTE FUNCTION {event}()")
