"""Settings: the sections of `luigi.cfg`, each also set by `PIPELINE__<SECTION>__<KEY>` or `--<section>-<key>`."""

from pipeline.settings.alerts import alerts
from pipeline.settings.configuration import apply_environment, apply_shipped_configuration
from pipeline.settings.files import source, storage
from pipeline.settings.logs import logs
from pipeline.settings.models import dbt
from pipeline.settings.running import schedule, ui
from pipeline.settings.warehouses import gcp, postgres

__all__ = [
    "alerts",
    "apply_environment",
    "apply_shipped_configuration",
    "dbt",
    "gcp",
    "logs",
    "postgres",
    "schedule",
    "source",
    "storage",
    "ui",
]
