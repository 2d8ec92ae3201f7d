"""The dbt models: running them, and knowing whether they are up to date. Nothing in this folder knows of Luigi."""

from pipeline.models.bigquery import BigQueryModels
from pipeline.models.build import DbtCommand, ModelWarehouse, build, current_build
from pipeline.models.invocation import LogLine, NodeResult, dbt_folders
from pipeline.models.postgres import PostgresModels

__all__ = [
    "BigQueryModels",
    "DbtCommand",
    "LogLine",
    "ModelWarehouse",
    "NodeResult",
    "PostgresModels",
    "build",
    "current_build",
    "dbt_folders",
]
