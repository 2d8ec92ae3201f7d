"""Loading a month into PostgreSQL through the modules; the `luigi` command's own behaviour is in test_luigi.py."""

from __future__ import annotations

from pathlib import Path

from conftest import execute, job_for

from pipeline.datasets import DatasetSpec
from pipeline.progress import silent
from pipeline.warehouses.postgres import PostgresDatabase, load


def test_month_is_loaded_and_accounted_for(
    database: PostgresDatabase, green: DatasetSpec, mirror: Path, tmp_path: Path
) -> None:
    entry = load(database, job_for(green, mirror, tmp_path), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (500, 500, 0, 0)
    assert execute(database, "SELECT filename, count(*) FROM green_tripdata GROUP BY 1") == [
        ("green_tripdata_2019-01.csv", 500)
    ]
