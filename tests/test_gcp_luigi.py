"""The `luigi` command on Google Cloud: a month uploaded and loaded, once."""

from __future__ import annotations

import gzip
from pathlib import Path

from conftest import Run
from gcp import GoogleCloud

LOAD = ("LoadTripdataToBigQuery", "--taxi", "green", "--month", "2019-01")


def test_month_is_uploaded_and_loaded_once_and_a_second_run_does_nothing(
    luigi: Run, google_cloud: GoogleCloud, mirror: Path
) -> None:
    first = luigi(*LOAD)
    assert first.returncode == 0, first.stderr
    assert "green/2019-01: 500 rows loaded into green_tripdata" in first.stderr
    released = gzip.decompress((mirror / "green" / "green_tripdata_2019-01.csv.gz").read_bytes())
    assert google_cloud.content("green_tripdata_2019-01.csv") == released
    assert google_cloud.rows("SELECT COUNT(*), COUNT(DISTINCT unique_row_id) FROM green_tripdata") == [(500, 500)]
    assert google_cloud.tables(google_cloud.place.staging_dataset) == []

    jobs = len(google_cloud.jobs())
    google_cloud.wire.requests.clear()
    second = luigi(*LOAD)
    assert second.returncode == 0, second.stderr
    assert "1 complete ones were encountered" in second.stderr
    assert len(google_cloud.jobs()) == jobs
    assert google_cloud.wire.seen("^(POST|PUT|PATCH|DELETE) ") == []
