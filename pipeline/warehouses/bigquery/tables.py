"""Creates BigQuery tables as the specs declare them, adds new columns to existing ones, and finds tables."""

from __future__ import annotations

import datetime

from google.api_core import exceptions
from google.cloud.bigquery import Client, SchemaField, Table, TimePartitioning
from google.cloud.bigquery.table import TableListItem

from pipeline.datasets import Dataset
from pipeline.datasets.spec import QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.bigquery.client import REQUEST_SECONDS, GoogleProject, short_bigquery_retry
from pipeline.warehouses.bigquery.resources import LABELS, check_location

# https://cloud.google.com/bigquery/quotas#partitioned_tables: 10,000 partitions per table. Some are reserved for rows
# of a month's file whose days are outside the month.
_MAX_DAYS = 10_000 - 1_000
_SUFFICIENT_UNTIL = datetime.date(2037, 1, 1)
# BigQuery returns the older names: https://cloud.google.com/bigquery/docs/reference/rest/v2/tables
_LEGACY_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def table_fields(dataset: Dataset) -> list[SchemaField]:
    """Returns the schema of a dataset's table, in the spec's order."""
    added = [
        SchemaField("unique_row_id", "BYTES", "REQUIRED", description=dataset.row_id_comment),
        SchemaField("filename", "STRING", "REQUIRED", description="The file that the row came in."),
    ]
    return (added if dataset.is_monthly else []) + staging_fields(dataset, dataset.column_names)


def staging_fields(dataset: Dataset, columns: tuple[str, ...]) -> list[SchemaField]:
    """Returns the schema of a file's columns, in the file's order."""
    declared = {column.name: column for column in dataset.columns}
    return [SchemaField(n, declared[n].bigquery_type, description=declared[n].description) for n in columns]


def quarantine_fields() -> list[SchemaField]:
    """Returns the schema of the quarantine: rows that are in a file but not in its table, each with the reason."""
    texts = ("target_table", "filename", "reason", "detail")
    return [
        *(SchemaField(name, "STRING", "REQUIRED") for name in texts),
        SchemaField("unique_row_id", "BYTES"),
        SchemaField("row_values", "STRING", description="The row as JSON."),
        SchemaField("quarantined_at", "TIMESTAMP", "REQUIRED"),
    ]


def partitioning(dataset: Dataset) -> str:
    """Returns the partitioning of a new table: DAY if the partitions suffice until 2036, otherwise MONTH."""
    first = dataset.first_month
    return "DAY" if first and (_SUFFICIENT_UNTIL - first).days <= _MAX_DAYS else "MONTH"


def ensure_tables(client: Client, project: GoogleProject, dataset: Dataset) -> None:
    """Creates the dataset's table and the quarantine as the spec declares them; idempotent.

    Rows are partitioned by the event time (stored as UTC) and clustered by filename. An existing table keeps its
    partitioning; columns that were added to the spec are added to it.

    :raises PipelineError: if a table of that name exists that no version of the spec declares, or one with another row
        key.
    """
    table = Table(project.table_id(dataset.table), table_fields(dataset))
    table.description = dataset.table_comment
    if dataset.is_monthly:
        table.time_partitioning = TimePartitioning(partitioning(dataset), dataset.event_time)
        table.clustering_fields = ["filename"]
        ensure_table(client, project, Table(project.table_id(QUARANTINE), quarantine_fields()))
    found = ensure_table(client, project, table)
    if found is None:
        raise PipelineError(
            f"the table {table.reference} exists already and is not the one that {dataset.spec_file} declares; rename"
            " it, or choose another [gcp] dataset"
        )
    for field in found.schema:
        if field.name == "unique_row_id":
            dataset.check_row_key(str(found.reference), field.description)


def ensure_table(client: Client, project: GoogleProject, table: Table) -> Table | None:
    """Creates the table, or adds the columns that it lacks; returns it, or None if it has other columns or types.

    https://cloud.google.com/bigquery/docs/managing-table-schemas#adding_columns_to_a_tables_schema_definition

    :raises PipelineError: if it is not in the configured location.
    """
    declared = {field.name.lower(): _type_of(field) for field in table.schema}
    while True:
        found = find_table(client, project, str(table.reference))
        if found is None:
            table.labels = LABELS
            client.create_table(table, exists_ok=True, timeout=REQUEST_SECONDS)
            continue
        existing = {field.name.lower(): _type_of(field) for field in found.schema}
        missing = [field for field in table.schema if field.name.lower() not in existing]
        if not existing.items() <= declared.items() or any(field.mode == "REQUIRED" for field in missing):
            return None
        if not missing:
            return found
        found.schema = [*found.schema, *missing]
        try:
            return client.update_table(found, ["schema"], timeout=REQUEST_SECONDS)
        except exceptions.PreconditionFailed:  # another worker changed it since the lookup
            continue


def find_table(client: Client, project: GoogleProject, table_id: str) -> Table | None:
    """Returns the table, or None if there is none; looks up the table itself, so that its location does not matter.

    :raises PipelineError: if it is not in the configured location.
    """
    try:
        table = client.get_table(table_id, retry=short_bigquery_retry(), timeout=REQUEST_SECONDS)
    except exceptions.NotFound:
        return None
    check_location(project, f"table {table_id}", table.location)
    return table


def list_tables(client: Client, project: GoogleProject, dataset: str) -> list[TableListItem]:
    """Returns the tables and views of a dataset; empty if it is missing."""
    try:
        return [*client.list_tables(f"{project.project}.{dataset}", timeout=REQUEST_SECONDS)]
    except exceptions.NotFound:
        return []


def _type_of(field: SchemaField) -> str:
    return _LEGACY_NAMES.get(field.field_type, field.field_type)
