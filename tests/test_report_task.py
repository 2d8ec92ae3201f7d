"""The Report task: the page is written again only if its contents have changed."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil
import pytest
from conftest import BIN, Run, execute, run_command, settings, start_command
from waiting import lock_held, wait_until_blocked

from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.embedded import ensure_running

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("golden_mirror")]

REPORT = ("Report", "--warehouse", "postgres")
TABLE_SCANS = """
    SELECT relname, seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables
    WHERE schemaname = %s AND (relname LIKE 'fact_trips%%' OR relname LIKE 'green_tripdata%%') ORDER BY 1
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "data" / "reports" / "postgres" / "index.html"


def test_report_shows_the_marts_and_is_written_again_only_if_they_change(
    luigi: Run, pipeline: Run, database: PostgresDatabase, page: Path
) -> None:
    for taxi in ("green", "yellow"):
        assert luigi("LoadTripdata", "--taxi", taxi, "--month", "2019-01").returncode == 0
    first = luigi(*REPORT)
    assert first.returncode == 0, first.stderr
    assert f"the report is at {page.as_uri()}" in first.stderr
    [(trips, revenue)] = execute(database, "SELECT count(*), sum(total_amount) FROM fact_trips")
    assert f'<dd class="value">{trips}</dd>' in page.read_text()
    assert f"${revenue:.2f}" in page.read_text()
    charts = ["boroughs", "map", "months", "payments", "zone-revenue", "zones"]
    assert sorted(file.stem for file in page.parent.glob("*.svg")) == charts
    assert {file.suffix for file in page.parent.iterdir()} == {".html", ".svg"}

    written = page.stat()
    second = luigi(*REPORT)
    assert second.returncode == 0, second.stderr
    assert page.stat() == written

    for taxi in ("green", "yellow"):
        pipeline("forget", "--taxi", taxi, "--month", "2019-01")
    third = luigi(*REPORT)
    assert third.returncode == 0, third.stderr
    assert "Nothing is loaded yet" in page.read_text()
    assert list(page.parent.iterdir()) == [page]


def test_report_reads_no_table_with_a_row_for_each_trip(luigi: Run, built: PostgresDatabase, page: Path) -> None:
    before = execute(built, TABLE_SCANS, built.schema)
    assert len(before) == 6  # the tables and their partitions

    with lock_held(
        built, "LOCK TABLE fact_trips, green_tripdata IN ACCESS EXCLUSIVE MODE"
    ):  # a query that reads them waits
        report = luigi(*REPORT, PGOPTIONS="-c lock_timeout=2s")

    assert report.returncode == 0, report.stderr
    assert "New York taxi trips" in page.read_text()
    assert execute(built, TABLE_SCANS, built.schema) == before


def test_report_is_on_a_month_that_another_run_loads_after_the_build(
    built: PostgresDatabase, mirror: Path, tmp_path: Path, page: Path
) -> None:
    (tmp_path / "meanwhile.py").write_text(LOAD_YELLOW_BEFORE_THE_REPORT.format(luigi=BIN / "luigi"))
    environment = settings(tmp_path, built, mirror) | {"PYTHONPATH": str(tmp_path)}

    report = run_command("luigi", "--module", "meanwhile", *REPORT, **environment)

    assert report.returncode == 0, report.stderr
    assert execute(built, "SELECT count(*) FROM fact_trips WHERE service_type = 'Yellow'") == [(2,)]
    [(trips,)] = execute(built, "SELECT count(*) FROM fact_trips")
    assert f'<dd class="value">{trips}</dd>' in page.read_text()


LOAD_YELLOW_BEFORE_THE_REPORT = """
import subprocess

import luigi
from pipeline.tasks import Report

@Report.event_handler(luigi.Event.START)
def load(_):
    arguments = ["--module", "pipeline", "LoadTripdata", "--taxi", "yellow", "--month", "2019-01"]
    subprocess.run(["{luigi}", *arguments], check=True)
"""


def test_report_without_its_marts_or_its_server_fails_in_one_line(
    luigi: Run, built: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    with lock_held(built, "LOCK TABLE file_quality"):
        reading = start_command("luigi", "--module", "pipeline", *REPORT, **settings(tmp_path, built, mirror))
        wait_until_blocked(built, ".*file_quality")
        crash_server(built)
    output, _ = reading.communicate(timeout=30)
    assert reading.returncode == 30, output
    assert re.search(r"ERROR: failed .*: the report cannot be made: the database connection broke", output), output
    assert "Traceback" not in output

    execute(built, "DROP TABLE file_quality")
    failed = luigi(*REPORT)
    assert failed.returncode == 30
    assert "the report cannot be made" in failed.stderr and "file_quality" in failed.stderr, failed.stderr
    assert "Traceback" not in failed.stderr


def test_report_that_cannot_be_written_fails_in_one_line(luigi: Run, built: PostgresDatabase, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "reports").symlink_to(tmp_path / "nowhere" / "reports")
    failed = luigi(*REPORT)
    assert failed.returncode == 30
    assert "; fix that, or change [storage] root\n" in failed.stderr, failed.stderr
    assert "Traceback" not in failed.stderr


def crash_server(database: PostgresDatabase) -> None:
    """Lets the server crash, which leaves its lock files behind, and starts it again."""
    [(checkpointer,)] = execute(database, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    postmaster = psutil.Process(checkpointer).parent()
    folder = Path(postmaster.cwd())
    postmaster.send_signal(signal.SIGQUIT)
    postmaster.wait(60)
    assert ensure_running(folder) == database.dsn.replace("/models?", "/postgres?")
