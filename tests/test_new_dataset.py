"""The steps of docs/new-dataset.md bring a new dataset into the marts and the report."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT, execute, run_copy, settings

from pipeline.datasets import parse_month
from pipeline.datasets.spec_reader import read_spec
from pipeline.sample import write_month, write_zones
from pipeline.warehouses.postgres.connection import PostgresDatabase

SERVICE = "    shuttle_tripdata: {service: Shuttle, facts: false}\n"


@pytest.mark.models
def test_new_dataset_is_in_the_marts_after_the_documented_steps(
    checkout: Path, tmp_path: Path, database: PostgresDatabase
) -> None:
    (spec,) = re.findall(r"```yaml\n(name: shuttle.*?)```", (CHECKOUT / "docs/new-dataset.md").read_text(), re.DOTALL)
    spec_file, project = checkout / "pipeline/datasets/shuttle.yaml", checkout / "dbt/dbt_project.yml"
    spec_file.write_text(spec)
    staging = checkout / "dbt/models/staging"
    model = (staging / "stg_fhv_tripdata.sql").read_text().replace("fhv_tripdata", "shuttle_tripdata")
    (staging / "stg_shuttle_tripdata.sql").write_text(model)
    project.write_text(project.read_text().replace("\nmodels:\n", f"{SERVICE}\nmodels:\n", 1))
    make_sources = [sys.executable, "scripts/dbt_sources.py"]  # make sources
    subprocess.run(make_sources, cwd=checkout, env={"PYTHONPATH": str(checkout)}, check=True)
    mirror = tmp_path / "mirror"
    write_month(read_spec(spec_file), parse_month("2021-01"), 50, mirror)
    write_zones(mirror)

    month = ("--taxi", "shuttle", "--month", "2021-01", "--warehouse", "postgres")
    for _ in range(2):  # the second one finds everything done
        done = run_copy(checkout, "TripdataPipeline", *month, **settings(tmp_path, database, mirror))
        assert done.returncode == 0, done.stderr

    assert "running   " not in done.stderr
    assert execute(database, "SELECT service_type, trips, reported FROM file_quality") == [("Shuttle", 50, 50)]
