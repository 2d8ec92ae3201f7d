"""Metrics for Prometheus: in the text file and from luigid, counted by several runs and processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import time
import urllib.request
from pathlib import Path

from central import free_port
from conftest import BIN, Run
from prometheus_client.parser import text_string_to_metric_families
from waiting import eventually

from pipeline.monitoring.metrics import MetricsFile

LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")


def samples(text: str) -> dict[tuple[str, str, str], float]:
    """The value of each sample, by its name, dataset and task."""
    return {
        (sample.name, sample.labels.get("dataset", ""), sample.labels.get("task", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_summed_over_runs(luigi: Run, tmp_path: Path) -> None:
    before = time.time()
    assert luigi(*LOAD).returncode == 0
    assert luigi(*LOAD, "--force", "--workers", "2").returncode == 0
    assert luigi(*LOAD).returncode == 0
    assert luigi(*LOAD[:-1], "2031-05").returncode == 30
    found = samples((tmp_path / "data" / "metrics" / "pipeline.prom").read_text())

    assert found["pipeline_rows_total", "green", "LoadTripdata"] == 1000
    assert found["pipeline_task_seconds_count", "green", "LoadTripdata"] == 2
    assert 0 < found["pipeline_task_seconds_sum", "green", "LoadTripdata"] < time.time() - before
    assert before < found["pipeline_last_success_timestamp_seconds", "green", "LoadTripdata"] < time.time()
    assert found["pipeline_task_failures_total", "green", "ExtractTripdata"] == 1
    assert ("pipeline_task_failures_total", "green", "LoadTripdata") not in found


def test_scheduling_failures_are_counted(luigi: Run, tmp_path: Path) -> None:
    assert luigi(*LOAD, PIPELINE__POSTGRES__DSN="postgresql://me@127.0.0.1:1/taxi").returncode == 35
    found = samples((tmp_path / "data" / "metrics" / "pipeline.prom").read_text())

    assert found == {("pipeline_task_failures_total", "green", "LoadTripdata"): 1}


def succeed_often(file: Path) -> None:
    for _ in range(20):
        MetricsFile(file).task_succeeded("LoadTripdata", "green", 0.5, 10)


def test_processes_share_one_file(tmp_path: Path) -> None:
    file = tmp_path / "metrics" / "pipeline.prom"
    processes = [multiprocessing.Process(target=succeed_often, args=(file,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert samples(file.read_text())["pipeline_rows_total", "green", "LoadTripdata"] == 800


def test_damaged_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.prom"
    file.write_bytes(b"\0" * 100 + b'\npipeline_rows_total{dataset="green",task="LoadTrip')
    MetricsFile(file).task_succeeded("LoadTripdata", "green", 0.5, 10)

    assert samples(file.read_text())["pipeline_rows_total", "green", "LoadTripdata"] == 10


def test_luigid_exports_the_metrics_of_the_pipeline_with_its_own(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "data" / "metrics" / "pipeline.prom").task_succeeded("LoadTripdata", "green", 0.5, 10)
    collector = "pipeline.monitoring.scheduler_metrics.SchedulerMetrics"
    (tmp_path / "luigi.cfg").write_text(
        f"[storage]\nroot = {tmp_path / 'data'}\n"
        f"[scheduler]\nmetrics_collector = custom\nmetrics_custom_import = {collector}\n"
    )
    port = free_port()
    command = [BIN / "luigid", "--address", "127.0.0.1", "--port", str(port), "--state-path", tmp_path / "state"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as luigid:
        exported = list[str]()

        def has_responded() -> bool:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
                exported.append(response.read().decode())
            return exported != []

        eventually(has_responded)
        luigid.terminate()

    assert "# TYPE luigi_task_done_total counter" in exported[0]
    assert samples(exported[0])["pipeline_rows_total", "green", "LoadTripdata"] == 10
