"""What a luigid exports at /metrics: Luigi's own counts, and the pipeline's."""

from __future__ import annotations

from luigi.contrib.prometheus_metric import PrometheusMetricsCollector
from prometheus_client import generate_latest

from pipeline.monitoring.metrics import MetricsFile
from pipeline.settings import StorageSettings


class SchedulerMetrics(PrometheusMetricsCollector):
    """For `[scheduler] metrics_custom_import`: adds what the runs on this storage root have counted."""

    def generate_latest(self) -> bytes:
        return generate_latest(self.registry) + MetricsFile(StorageSettings().metrics_file()).text().encode()
