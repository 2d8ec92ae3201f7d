"""The models on BigQuery: the same golden rows as on PostgreSQL, updated file by file, with a MERGE for each model."""

from __future__ import annotations

import datetime
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import JANUARY, Run, job_for, settings, start_command
from gcp import GoogleCloud
from gcp_trips import BlockedRequest, load_release
from golden_releases import MARTS, as_text, golden_mart, write_release
from sqlglot import exp, parse
from trips import FEBRUARY, HEADER, trip
from waiting import eventually

from pipeline.datasets import dataset_named
from pipeline.warehouses.postgres.connection import PostgresDatabase

pytestmark = pytest.mark.usefixtures("golden_mirror")
MARCH = datetime.date(2019, 3, 1)
BUILD = ("DbtBuild", "--warehouse", "bigquery")


def test_marts_contain_the_golden_rows_and_are_updated_file_by_file(
    luigi: Run, prepared_cloud: GoogleCloud, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    for taxi, month in (("green", JANUARY), ("green", FEBRUARY), ("yellow", JANUARY)):
        load_release(prepared_cloud, job_for(dataset_named(taxi), mirror, tmp_path, month))

    first = luigi(*BUILD)
    assert first.returncode == 0 and "WARNING: dbt" not in first.stderr, first.stderr
    for name, order in MARTS.items():
        [header, *rows] = golden_mart(name)
        assert as_text(prepared_cloud.rows(f"SELECT {', '.join(header)} FROM {name} ORDER BY {order}")) == rows

    again = luigi(*BUILD)
    assert "Did not run any tasks" in again.stderr, again.stderr
    [manifest] = (tmp_path / "data" / "dbt" / "runs").glob("*/manifest.json")
    assert_one_after_the_other(json.loads(manifest.read_text()))

    prepared_cloud.rows("CREATE OR REPLACE TABLE dim_zones AS SELECT 1 AS locationid")  # as another dbt project would
    refused = luigi(*BUILD)
    assert refused.returncode == 30 and "Traceback" not in refused.stderr, refused.stderr
    assert "tlc.dim_zones; nothing was built. Rename or drop it" in refused.stderr
    prepared_cloud.rows("DROP TABLE dim_zones")

    unusual_rows = [trip(number, **values) for number, values in enumerate(UNUSUAL_VALUES, 20)]
    write_release(
        mirror / "green/green_tripdata_2019-01.csv.gz", [HEADER, trip(0, total_amount="1"), trip(9), *unusual_rows]
    )
    load_release(prepared_cloud, job_for(dataset_named("green"), mirror, tmp_path, replace=True))
    earlier = len(prepared_cloud.jobs())
    second = luigi(*BUILD)
    assert second.returncode == 0, second.stderr
    read = tables_of_trips(prepared_cloud, earlier)
    assert len(read) > 10  # fact_trips is written and read, and the loaded tables are read
    assert [table.sql() for table in read if not is_pruned(table, "green_tripdata_2019-01.csv")] == []
    assert prepared_cloud.rows("SELECT filename, COUNT(*) FROM fact_trips GROUP BY 1 ORDER BY 1") == [
        ("green_tripdata_2019-01.csv", 10),
        ("green_tripdata_2019-02.csv", 2),
        ("yellow_tripdata_2019-01.csv", 2),
    ]
    queries = [job["configuration"].get("query", {}).get("query", "") for job in prepared_cloud.jobs()]
    merges = [query for query in queries if "COMMIT TRANSACTION" in query]
    assert "filename in ('green_tripdata_2019-01.csv')" in merges[-3]
    checks = "trips, reported, unknown_pickup_times, unknown_pickup_zones, unknown_vendors, unknown_amounts"
    january_checks = f"SELECT {checks} FROM file_quality WHERE filename = 'green_tripdata_2019-01.csv'"
    assert prepared_cloud.rows(january_checks) == [(12, 10, 1, 1, 1, 1)]
    distance = "SELECT CAST(trip_distance AS STRING) FROM fact_trips WHERE vendorid = -1"
    assert prepared_cloud.rows(distance) == [("123456789.1234567",)]
    durations = "SELECT COUNT(*) FROM fact_trips WHERE trip_duration_minutes = 0.01"  # as on PostgreSQL
    assert prepared_cloud.rows(durations) == [(1,)]
    earlier = len(prepared_cloud.jobs())
    report = luigi("Report", "--warehouse", "bigquery")
    assert report.returncode == 0 and "Traceback" not in report.stderr, report.stderr
    assert tables_of_trips(prepared_cloud, earlier) == []

    # BigQuery goes on with the statement of a killed build. It must not insert the same rows as the next build.
    write_release(mirror / "green/green_tripdata_2019-03.csv.gz", [HEADER, trip(0, MARCH), trip(1, MARCH)])
    load_release(prepared_cloud, job_for(dataset_named("green"), mirror, tmp_path, MARCH))
    held = BlockedRequest(prepared_cloud, "^STEP .*COMMIT TRANSACTION")
    killed = start_command("luigi", "--module", "pipeline", *BUILD, **settings(tmp_path, database, mirror))
    assert held.arrived.wait(120)
    killed.kill()
    killed.communicate()
    refused = luigi(*BUILD)
    held.may_continue.set()
    assert refused.returncode == 30, refused.stderr
    assert "another build is changing the same models; run again" in refused.stderr
    eventually(lambda: all(job["status"]["state"] == "DONE" for job in prepared_cloud.jobs()))
    third = luigi(*BUILD)
    assert third.returncode == 0, third.stderr
    assert prepared_cloud.rows("SELECT COUNT(*) FROM fact_trips WHERE filename LIKE '%2019-03%'") == [(2,)]


def assert_one_after_the_other(manifest: dict[str, Any]) -> None:
    """The transactions of a build would conflict with each other."""

    def ancestors(name: str) -> set[str]:
        return {name}.union(*map(ancestors, manifest["parent_map"][name]))

    incremental = [name for name, node in manifest["nodes"].items() if node["config"]["materialized"] == "incremental"]
    assert len(incremental) == 5
    for one, other in itertools.combinations(incremental, 2):
        assert one in ancestors(other) or other in ancestors(one)


def tables_of_trips(cloud: GoogleCloud, earlier: int) -> list[exp.Table]:
    """The tables and views with a row for each trip that the statements read or write since the `earlier` jobs.

    They grow with each month. Statements that define a view are left out, as they read nothing.
    """
    jobs = [job["configuration"] for job in cloud.jobs()[earlier:]]
    statements = [each for job in jobs if "query" in job for each in parse(job["query"]["query"], dialect="bigquery")]
    read = [each for each in statements if not (isinstance(each, exp.Create) and each.kind == "VIEW")]
    return [table for each in read for table in each.find_all(exp.Table) if TRIP_TABLES.fullmatch(table.name)]


def is_pruned(table: exp.Table, filename: str) -> bool:
    """Whether a statement reads only this file's rows of a table, which is clustered by file name."""
    scope = table.find_ancestor(exp.Select, exp.Merge)
    while scope:
        conditions = scope.args["whens"].find_all(exp.In) if isinstance(scope, exp.Merge) else []
        where = scope.args.get("where")
        conditions = [*conditions, *(where.find_all(exp.In) if where else [])]
        if any(of.this.name == "filename" and [f.name for f in of.expressions] == [filename] for of in conditions):
            return True
        scope = scope.find_ancestor(exp.Select, exp.Merge)
    return False


TRIP_TABLES = re.compile("stg_.*|.*_tripdata|fact_trips|int_trips|excluded_trips")


# Values that the load accepts. It refuses texts in codes, 1.79e308 and years of six digits: test_gcp_upload.
UNUSUAL_VALUES: list[dict[str, str]] = [
    {"vendorid": "2.0"},
    {"pulocationid": "999"},
    {"lpep_pickup_datetime": ""},
    {"lpep_pickup_datetime": "9999-12-31 23:59:59"},
    {"fare_amount": "99999999999999999999999999999"},
    {"payment_type": "77"},
    {"store_and_fwd_flag": "?"},
    {"vendorid": "-1", "trip_distance": "123456789.1234567"},
    {"vendorid": "1234567890"},
    {"lpep_pickup_datetime": "2019-01-01 10:00:00", "lpep_dropoff_datetime": "2019-01-01 10:00:00.6"},
]
