"""Tables of BigQuery as the dataset specs declare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.datasets import Dataset
from pipeline.datasets.spec import QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import GcpProject
from pipeline.warehouses.bigquery.google_errors import short_retry
from pipeline.warehouses.bigquery.jobs import REQUEST_SECONDS
from pipeline.warehouses.bigquery.resources import LABELS

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, SchemaField, Table


def table_fields(spec: Dataset) -> list[SchemaField]:
    """The columns of a dataset's table; a file's column order does not matter to it."""
    from google.cloud.bigquery import SchemaField

    added = [
        SchemaField("unique_row_id", "BYTES", "REQUIRED", description=f"MD5 of {', '.join(spec.row_key)}."),
        SchemaField("filename", "STRING", "REQUIRED", description="The file that the row came in."),
    ]
    return (added if spec.is_monthly else []) + staging_fields(spec, spec.column_names)


def staging_fields(spec: Dataset, columns: tuple[str, ...]) -> list[SchemaField]:
    """The columns of a file, in its own order."""
    from google.cloud.bigquery import SchemaField

    declared = {column.name: column for column in spec.columns}
    return [SchemaField(n, declared[n].bigquery_type, description=declared[n].description) for n in columns]


def quarantine_fields() -> list[SchemaField]:
    """The columns of the table that keeps rows which are in a file but not in its table, each with its reason."""
    from google.cloud.bigquery import SchemaField

    texts = ("target_table", "filename", "reason", "detail")
    return [
        *(SchemaField(name, "STRING", "REQUIRED") for name in texts),
        SchemaField("unique_row_id", "BYTES"),
        SchemaField("row_values", "STRING", description="The row as JSON."),
        SchemaField("quarantined_at", "TIMESTAMP", "REQUIRED"),
    ]


def ensure_tables(client: Client, project: GcpProject, spec: Dataset) -> None:
    """Returns when the dataset's table and the quarantine stand as the spec says; harmless to repeat.

    Months lie in partitions by the day of the event (UTC, as the times are kept), clustered by filename.

    :raises PipelineError: when a table of that name is there already and is not the spec's.
    """
    from google.cloud import bigquery

    table = bigquery.Table(project.table_id(spec.table), table_fields(spec))
    table.description = f"{spec.title} (pipeline/datasets/{spec.name}.yaml, version {spec.version})"
    if spec.is_monthly:
        table.time_partitioning = bigquery.TimePartitioning(bigquery.TimePartitioningType.DAY, spec.event_time)
        table.clustering_fields = ["filename"]
        _ensure(client, bigquery.Table(project.table_id(QUARANTINE), quarantine_fields()))
    _check(spec, table, _ensure(client, table))


def _ensure(client: Client, table: Table) -> Table:
    from google.api_core import exceptions

    try:
        return client.get_table(table.reference, retry=short_retry(), timeout=REQUEST_SECONDS)
    except exceptions.NotFound:
        table.labels = LABELS
        return client.create_table(table, exists_ok=True, timeout=REQUEST_SECONDS)


def _check(spec: Dataset, wanted: Table, found: Table) -> None:
    def columns(table: Table) -> set[tuple[str, str]]:
        return {(f.name.lower(), _LEGACY_NAMES.get(f.field_type, f.field_type)) for f in table.schema}

    if columns(found) != columns(wanted):
        raise PipelineError(
            f"the table {wanted.full_table_id or wanted.reference} is there already and is not the one that"
            f" pipeline/datasets/{spec.name}.yaml declares; rename it, or choose another [gcp] dataset"
        )


# BigQuery answers with the older names: https://cloud.google.com/bigquery/docs/reference/rest/v2/tables
_LEGACY_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
