"""Adds the pipeline's metrics to those that luigid exports at /metrics."""

from __future__ import annotations

from luigi.contrib.prometheus_metric import PrometheusMetricsCollector
from prometheus_client import generate_latest

from pipeline.monitoring.metrics import MetricsFile
from pipeline.settings import StorageSettings


class SchedulerMetrics(PrometheusMetricsCollector):
    """For `[scheduler] metrics_custom_import`: adds the metrics of the runs with this storage root."""

    def generate_latest(self) -> bytes:
        return generate_latest(self.registry) + MetricsFile(StorageSettings().metrics_file()).text().encode()
