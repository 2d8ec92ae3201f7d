"""TripdataPipeline: a month from its source to the report; many months with a single build at the end."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from conftest import Run, execute
from gcp import GoogleCloud
from golden_releases import write_release
from http_source import http_source
from trips import HEADER, trip

from pipeline.warehouses.postgres.connection import PostgresDatabase

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("golden_mirror")]

MARCH = datetime.date(2019, 3, 1)
RANGE = ("RangeMonthly", "--of", "TripdataPipeline", "--of-params", '{"taxi": "green", "warehouse": "postgres"}')
FILES = "SELECT filename, count(*) FROM fact_trips GROUP BY 1 ORDER BY 1"


def test_range_of_months_runs_one_build_at_the_end(
    luigi: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    # 2019-03 does not exist at the source; the other months are in the marts nevertheless.
    done = luigi(*RANGE, "--start", "2019-01", "--stop", "2019-04")

    assert done.returncode == 30
    assert "green 2019-03 does not exist" in done.stderr
    assert done.stderr.count("Completed successfully") == 1
    assert execute(database, FILES) == [("green_tripdata_2019-01.csv", 6), ("green_tripdata_2019-02.csv", 2)]
    assert done.stderr.count("the report is at ") == 1

    again = luigi(*RANGE, "--start", "2019-01", "--stop", "2019-03")
    assert again.returncode == 0, again.stderr
    assert "Did not run any tasks" in again.stderr

    write_release(mirror / "green/green_tripdata_2019-03.csv.gz", [HEADER, trip(0, MARCH), trip(1, MARCH)])
    new_month = luigi(*RANGE, "--start", "2019-01", "--stop", "2019-04")
    assert new_month.returncode == 0, new_month.stderr
    assert months_done(new_month.stderr) == {"2019-03"}
    assert execute(database, FILES)[2:] == [("green_tripdata_2019-03.csv", 2)]

    (tmp_path / "data" / "reports" / "postgres" / "index.html").unlink()
    report = luigi(*RANGE, "--start", "2019-01", "--stop", "2019-04")
    assert report.returncode == 0 and report.stderr.count("the report is at ") == 1, report.stderr
    assert months_done(report.stderr) == {"2019-03"}  # the last one: running one month is enough


def test_two_workers_bring_every_month_into_the_marts(luigi: Run, database: PostgresDatabase) -> None:
    done = luigi(*RANGE, "--start", "2019-01", "--stop", "2019-03", "--workers", "2")

    assert done.returncode == 0, done.stderr
    assert execute(database, FILES) == [("green_tripdata_2019-01.csv", 6), ("green_tripdata_2019-02.csv", 2)]


def test_catch_up_brings_a_new_edition_into_the_marts_and_the_report(
    luigi: Run, pipeline: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    with http_source() as site:
        for file in mirror.rglob("*.csv*"):
            site.files[f"/{file.relative_to(mirror)}"] = file.read_bytes()
        settings = {
            "PIPELINE__SOURCE__BASE_URL": site.url,
            "PIPELINE__SCHEDULE__TASK": "TripdataPipeline",
            "PIPELINE__SCHEDULE__PARAMETERS": '{"warehouse": "postgres"}',
            "PIPELINE__SCHEDULE__RELOAD": "always",
        }
        for etag in ('"first"', '"second"'):
            site.etag = etag
            done = pipeline("schedule", "green", "--once", **settings)
            assert done.returncode == 0, done.stderr
            assert done.stderr.count("the report is at ") == done.stderr.count("Completed successfully") == 1
            loaded = execute(database, "SELECT DISTINCT etag FROM load_ledger WHERE target_table = 'green_tripdata'")
            assert loaded == [(etag,)]

        site.files = {path: content for path, content in site.files.items() if "2019-01" in path}
        (tmp_path / "data" / "reports" / "postgres" / "index.html").unlink()
        done = pipeline("schedule", "green", "--once", **settings)  # the loaded month is not at the source any more
        assert done.returncode == 0 and "the report is at " in done.stderr, done.stderr

        current = luigi("TripdataPipeline", "--taxi", "green", "--month", "2019-02", "--warehouse", "postgres")
    assert "Did not run any tasks" in current.stderr
    assert execute(database, FILES) == [("green_tripdata_2019-01.csv", 6), ("green_tripdata_2019-02.csv", 2)]


def test_both_warehouses_give_the_same_report(luigi: Run, google_cloud: GoogleCloud, tmp_path: Path) -> None:
    whole = ("TripdataPipeline", "--taxi", "green", "--month", "2019-01", "--warehouse", "both")
    done = luigi(*whole)

    assert done.returncode == 0, done.stderr
    pages = [tmp_path / "data" / "reports" / warehouse / "index.html" for warehouse in ("postgres", "bigquery")]
    texts = [re.sub(r"The marts were built on [^.]*\.", "", page.read_text()) for page in pages]
    of_postgres, of_bigquery = (re.findall("<main>(.*)</main>", text, re.DOTALL) for text in texts)
    assert of_postgres == of_bigquery != []
    jobs = count_jobs_without_ledger_queries(google_cloud)
    again = luigi(*whole)
    assert again.returncode == 0, again.stderr
    assert "Did not run any tasks" in again.stderr
    assert count_jobs_without_ledger_queries(google_cloud) == jobs


def months_done(log: str) -> set[str]:
    """Returns the months whose TripdataPipeline has run."""
    return set(re.findall(r"done +TripdataPipeline\(.*month=([0-9-]+)", log))


def count_jobs_without_ledger_queries(cloud: GoogleCloud) -> int:
    labels = [job["configuration"].get("labels") or {} for job in cloud.jobs()]
    return sum(label.get("step") != "ledger" for label in labels)
