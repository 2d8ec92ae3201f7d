"""The Report task: a page that is made again when, and only when, what is in it has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, execute

from pipeline.warehouses.postgres.connection import PostgresDatabase

pytestmark = pytest.mark.usefixtures("golden_mirror")

REPORT = ("Report", "--warehouse", "postgres")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "data" / "reports" / "postgres" / "index.html"


def test_report_is_of_the_marts_and_made_again_only_when_they_change(
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
    charts = ["boroughs", "months", "week-green", "week-yellow", "zones"]
    assert sorted(file.stem for file in page.parent.glob("*.png")) == charts
    assert {file.suffix for file in page.parent.iterdir()} == {".html", ".png"}

    made = page.stat()
    second = luigi(*REPORT)
    assert second.returncode == 0, second.stderr
    assert page.stat() == made

    for taxi in ("green", "yellow"):
        pipeline("forget", "--taxi", taxi, "--month", "2019-01")
    third = luigi(*REPORT)
    assert third.returncode == 0, third.stderr
    assert "Nothing is loaded yet" in page.read_text()
    assert list(page.parent.iterdir()) == [page]
