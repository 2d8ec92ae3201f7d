"""Writes metrics to a file in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from pipeline.files import locked, replace_file

# Formatted without prometheus_client, whose import would cost each run more; tests parse the file with it.
_FAMILIES = {
    "pipeline_rows_total": ("counter", "Rows that a task has processed; for LoadTripdata, rows loaded."),
    "pipeline_task_seconds": ("summary", "How long a task took when it succeeded."),
    "pipeline_task_failures_total": ("counter", "Failures of a task, including those while scheduling."),
    "pipeline_last_success_timestamp_seconds": ("gauge", "When a task last succeeded."),
}


class MetricsFile:
    """Counters since the file was created. Safe for concurrent processes; methods only raise OSError."""

    def __init__(self, file: Path):
        self.file = file

    def task_succeeded(self, task: str, dataset: str, seconds: float, rows: int) -> None:
        """Counts a success, its duration and its rows."""
        labels = _labels(task, dataset)
        added = {
            f"pipeline_rows_total{labels}": rows,
            f"pipeline_task_seconds_sum{labels}": seconds,
            f"pipeline_task_seconds_count{labels}": 1,
        }
        self._update(added, {f"pipeline_last_success_timestamp_seconds{labels}": time.time()})

    def task_failed(self, task: str, dataset: str) -> None:
        """Counts a failure."""
        self._update({f"pipeline_task_failures_total{_labels(task, dataset)}": 1}, {})

    def text(self) -> str:
        """Returns the content of the file, or an empty text if there is none."""
        try:
            return self.file.read_text()
        except FileNotFoundError:
            return ""

    def _update(self, added: dict[str, float], replaced: dict[str, float]) -> None:
        with locked(self.file):
            series = _parse(self.text())
            for name, amount in added.items():
                series[name] = series.get(name, 0) + amount
            replace_file(self.file, _format(series | replaced).encode())


def _labels(task: str, dataset: str) -> str:
    return f'{{dataset="{dataset}",task="{task}"}}'


def _parse(text: str) -> dict[str, float]:
    series = dict[str, float]()
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        with contextlib.suppress(ValueError):  # a comment, or a line damaged by a crash, whose counter restarts at 0
            series[name] = float(value)
    return series


def _format(series: dict[str, float]) -> str:
    lines = list[str]()
    for family, (kind, help_text) in _FAMILIES.items():
        lines += [f"# HELP {family} {help_text}", f"# TYPE {family} {kind}"]
        lines += [f"{name} {value!r}" for name, value in sorted(series.items()) if name.startswith(family)]
    return "".join(line + "\n" for line in lines)
