"""Computes the checksums of a file's rows in BigQuery."""

from __future__ import annotations

import contextlib

from pipeline.datasets import Column, Dataset, Release
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.google_errors import translate_errors
from pipeline.warehouses.bigquery.jobs import REQUEST_SECONDS, job_labels, query_config, run_query
from pipeline.warehouses.bigquery.ledger import BigQueryEntry, Days
from pipeline.warehouses.bigquery.sql_text import column_text, days_condition, quoted, statement
from pipeline.warehouses.checksums import FileChecksums, checksums_from_rows, is_summed


def file_checksums(
    project: GoogleProject, release: Release, entry: BigQueryEntry, observer: LoadObserver
) -> FileChecksums:
    """Returns the checksums of a loaded file's rows by day; reads only the partitions of its days.

    :raises PipelineError: if BigQuery does not answer.
    """
    spec, filename = release.dataset, release.filename
    query = checksums_statement(project, spec, entry.days)
    config = query_config(project, job_labels(spec, filename, "reconcile"), filename=filename)
    with (
        translate_errors(f"{entry.partition_key} was not compared"),
        contextlib.closing(project.bigquery()) as client,
    ):
        job = run_query(client, f"adding up {filename}", query, config, observer)
        return checksums_from_rows(spec, [row.values() for row in job.result(timeout=REQUEST_SECONDS)])


def checksums_statement(project: GoogleProject, spec: Dataset, days: Days) -> str:
    """Returns the query for a file's checksums."""
    return statement(
        "select_file_checksums",
        table=quoted(project.table_id(spec.table)),
        event_time=quoted(spec.event_time or ""),
        checksums=", ".join(map(_checksums, spec.columns)),
        loaded_days=days_condition(spec, "loaded", days),
    )


def _checksums(column: Column) -> str:
    name = quoted(column.name)
    if is_summed(column):
        return f"COUNT({name}), SUM(CAST({name} AS NUMERIC))"
    digits = f"SUBSTR(TO_HEX(MD5({column_text(column)})), 1, 10)"
    return f"COUNT({name}), SUM(IF({name} IS NULL, NULL, CAST(CONCAT('0x', {digits}) AS INT64)))"
