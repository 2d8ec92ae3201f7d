"""Another warehouse only needs a package and a line: tasks, targets, commands and the report work with it unchanged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from conftest import CHECKOUT, JANUARY

from pipeline.datasets import dataset_named
from pipeline.sample import write_month, write_zones

PROGRAM = """
import dataclasses, datetime, sys
import luigi
import pipeline
from pipeline.warehouses.memory.warehouse import configured
from pipeline.__main__ import main as command
from pipeline.settings import DbtSettings
from pipeline.tasks.load import LOAD_TRIPDATA, LOAD_ZONES
from pipeline.tasks.marts import Report, TripdataPipeline
from pipeline.transform import wanted_build

january = datetime.date(2019, 1, 1)
load = LOAD_TRIPDATA["memory"](taxi="green", month=january)
assert load.task_family == "LoadTripdataToMemory" and not load.complete()
assert luigi.build([load, LOAD_ZONES["memory"]()], local_scheduler=True, workers=1)
assert load.complete()

warehouse = configured()
wanted = wanted_build(warehouse.loaded(), DbtSettings().variables())
warehouse.record_build(dataclasses.replace(wanted, finished_at=wanted.started_at))
report = Report(warehouse="memory")
assert not report.complete()
assert luigi.build([TripdataPipeline(taxi="green", month=january, warehouse="memory")], local_scheduler=True, workers=1)
assert report.complete() and "Memory" in report.output().path.read_text()

assert command(["status", "--taxi", "green"]) == 0
assert command(["forget", "--taxi", "green", "--month", "2019-01"]) == 0
assert not load.complete() and not report.complete()
"""


def test_third_warehouse_works_with_tasks_commands_and_the_report(checkout: Path, server: str, tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "tests" / "memory_warehouse", checkout / "pipeline" / "warehouses" / "memory")
    registry = checkout / "pipeline" / "warehouses" / "__init__.py"
    line = '    "bigquery": "pipeline.warehouses.bigquery",\n'
    registry.write_text(registry.read_text().replace(line, line + line.replace("bigquery", "memory")))
    mirror = tmp_path / "mirror"
    write_month(dataset_named("green"), JANUARY, 50, mirror)
    write_zones(mirror)
    environment = {
        "PYTHONPATH": str(checkout),
        "PIPELINE__STORAGE__ROOT": str(tmp_path / "data"),
        "PIPELINE__SOURCE__BASE_URL": str(mirror),
        "PIPELINE__POSTGRES__DSN": server,
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "50" in done.stdout and "removed from Memory" in done.stdout
