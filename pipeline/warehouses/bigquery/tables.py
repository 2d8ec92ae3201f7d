"""Tables of BigQuery as the dataset specs declare them, and a spec's new columns added to them."""

from __future__ import annotations

import datetime

from google.api_core import exceptions
from google.cloud.bigquery import Client, SchemaField, Table, TimePartitioning, TimePartitioningType

from pipeline.datasets import Dataset
from pipeline.datasets.spec import QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import short_retry
from pipeline.warehouses.bigquery.jobs import REQUEST_SECONDS
from pipeline.warehouses.bigquery.resources import LABELS, check_location

# https://cloud.google.com/bigquery/quotas#partitioned_tables: 10,000 partitions a table. A month has some rows of days
# that are not its own, so some are kept for those.
_MOST_DAYS = 10_000 - 1_000
_ENOUGH_UNTIL = datetime.date(2037, 1, 1)


def table_fields(spec: Dataset) -> list[SchemaField]:
    """The columns of a dataset's table; a file's column order does not matter to it."""
    added = [
        SchemaField("unique_row_id", "BYTES", "REQUIRED", description=f"MD5 of {', '.join(spec.row_key)}."),
        SchemaField("filename", "STRING", "REQUIRED", description="The file that the row came in."),
    ]
    return (added if spec.is_monthly else []) + staging_fields(spec, spec.column_names)


def staging_fields(spec: Dataset, columns: tuple[str, ...]) -> list[SchemaField]:
    """The columns of a file, in its own order."""
    declared = {column.name: column for column in spec.columns}
    return [SchemaField(n, declared[n].bigquery_type, description=declared[n].description) for n in columns]


def quarantine_fields() -> list[SchemaField]:
    """The columns of the table that keeps rows which are in a file but not in its table, each with its reason."""
    texts = ("target_table", "filename", "reason", "detail")
    return [
        *(SchemaField(name, "STRING", "REQUIRED") for name in texts),
        SchemaField("unique_row_id", "BYTES"),
        SchemaField("row_values", "STRING", description="The row as JSON."),
        SchemaField("quarantined_at", "TIMESTAMP", "REQUIRED"),
    ]


def partitioning(spec: Dataset) -> str:
    """How a new table of the dataset is partitioned: by DAY where that is enough until 2036, otherwise by MONTH."""
    first = spec.first_month
    return "DAY" if first and (_ENOUGH_UNTIL - first).days <= _MOST_DAYS else "MONTH"


def ensure_tables(client: Client, project: GoogleProject, spec: Dataset) -> None:
    """Returns when the dataset's table and the quarantine stand as the spec says; harmless to repeat.

    Rows lie in partitions by the time of the event (UTC, as the times are kept), clustered by filename. A table that is
    there keeps its partitions; columns that the spec has gained are added to it.

    :raises PipelineError: when a table of that name is there already and is not the spec's.
    """
    table = Table(project.table_id(spec.table), table_fields(spec))
    table.description = f"{spec.title} (pipeline/datasets/{spec.name}.yaml, version {spec.version})"
    if spec.is_monthly:
        unit = getattr(TimePartitioningType, partitioning(spec))
        table.time_partitioning = TimePartitioning(unit, spec.event_time)
        table.clustering_fields = ["filename"]
        ensure_table(client, project, Table(project.table_id(QUARANTINE), quarantine_fields()))
    found = ensure_table(client, project, table)
    if not add_columns(client, found, table.schema):
        raise PipelineError(
            f"the table {table.reference} is there already and is not the one that"
            f" pipeline/datasets/{spec.name}.yaml declares; rename it, or choose another [gcp] dataset"
        )


def ensure_table(client: Client, project: GoogleProject, table: Table) -> Table:
    """The table as it is, created where it is missing.

    :raises PipelineError: when it is in another location than the configured one.
    """
    try:
        found = client.get_table(table.reference, retry=short_retry(), timeout=REQUEST_SECONDS)
    except exceptions.NotFound:
        table.labels = LABELS
        found = client.create_table(table, exists_ok=True, timeout=REQUEST_SECONDS)
        if not found.schema:  # another worker was first
            found = client.get_table(table.reference, timeout=REQUEST_SECONDS)
    check_location(project, f"table {table.reference}", found.location)
    return found


def add_columns(client: Client, found: Table, wanted: list[SchemaField]) -> bool:
    """Adds the columns that a table lacks, without touching its rows; False when it has others, or of other types.

    https://cloud.google.com/bigquery/docs/managing-table-schemas#adding_columns_to_a_tables_schema_definition
    """
    while True:
        has = {field.name.lower(): _type_of(field) for field in found.schema}
        wants = {field.name.lower(): _type_of(field) for field in wanted}
        if not has.items() <= wants.items():
            return False
        missing = [field for field in wanted if field.name.lower() not in has]
        if not missing:
            return True
        if any(field.mode == "REQUIRED" for field in missing):
            return False
        found.schema = [*found.schema, *missing]
        try:
            client.update_table(found, ["schema"], timeout=REQUEST_SECONDS)
            return True
        except exceptions.PreconditionFailed:  # another worker changed it since it was looked at
            found = client.get_table(found.reference, timeout=REQUEST_SECONDS)


def _type_of(field: SchemaField) -> str:
    return _LEGACY_NAMES.get(field.field_type, field.field_type)


# BigQuery answers with the older names: https://cloud.google.com/bigquery/docs/reference/rest/v2/tables
_LEGACY_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
