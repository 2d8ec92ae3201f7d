"""Loads an object into a staging table with the file's columns, by one load job, which is free of charge."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from google.api_core import exceptions
from google.cloud.bigquery import Client, LoadJobConfig, SourceFormat, WriteDisposition
from google.cloud.bigquery.job import LoadJob

from pipeline.datasets import Release
from pipeline.errors import PipelineError, counted
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import REQUEST_SECONDS, GoogleProject
from pipeline.warehouses.bigquery.jobs import JobFailed, job_labels, query_config, run_job, run_query
from pipeline.warehouses.bigquery.ledger import ConcurrentUpdate
from pipeline.warehouses.bigquery.markers import Days
from pipeline.warehouses.bigquery.objects import ReleaseObject, find_object
from pipeline.warehouses.bigquery.sql_text import quoted, statement
from pipeline.warehouses.bigquery.tables import find_table, staging_fields


@dataclass(frozen=True)
class StagedFile:
    """A staging table: its rows, their days (UTC; None for rows without a time) and its columns."""

    table_id: str
    rows: int
    days: Days
    columns: tuple[str, ...]
    job_id: str


def stage(
    client: Client, project: GoogleProject, release: Release, source: ReleaseObject, observer: LoadObserver
) -> StagedFile:
    """Returns a staging table with exactly the object's rows, in the types of the spec.

    :raises PipelineError: with BigQuery's message if a row does not match the spec, if the number of rows differs from
        the file's, or if the object was uploaded for a spec with other columns.
    :raises ConcurrentUpdate: if the object or the table was replaced meanwhile.
    """
    dataset, filename = release.dataset, release.filename
    if unknown := [name for name in source.columns if name not in dataset.column_names]:
        raise PipelineError(
            f"{source.uri} has columns that {dataset.spec_file} does not declare: {', '.join(unknown)}; run again with"
            " --force, which uploads the file again"
        )
    identity = f"{project.dataset} {source.uri} {source.generation} {dataset.version}"
    name = f"{dataset.table}_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    table_id = project.staging_table_id(name)
    config = LoadJobConfig(
        schema=staging_fields(dataset, source.columns),
        source_format=SourceFormat.CSV,
        skip_leading_rows=1,
        allow_quoted_newlines=dataset.lines_in_quotes,
        write_disposition=WriteDisposition.WRITE_TRUNCATE,
        labels=job_labels(dataset, filename, "stage"),
    )

    def submit(job_id: str) -> LoadJob:
        return client.load_table_from_uri(
            source.uri, table_id, job_id=job_id, job_config=config, timeout=REQUEST_SECONDS
        )

    def is_kept() -> bool:
        return find_table(client, project, table_id) is not None

    try:
        job = run_job(client, f"tlc_stage_{name}", f"staging {filename}", submit, observer, is_kept)
    except JobFailed as error:
        _check_unchanged(project, release, source)
        remedy = "; correct the file at its source and run again with --force" if error.reason == "invalid" else ""
        raise PipelineError(f"{source.uri} was not loaded, and no row of it: {error}{remedy}") from error
    _check_unchanged(project, release, source)
    rows = int(job.output_rows)
    if source.rows is not None and rows != source.rows:
        raise PipelineError(
            f"{source.uri} has {counted(source.rows, 'row')} and BigQuery read {rows:,}; nothing was loaded: look for a"
            " stray quote in the file"
        )
    days = _days(client, project, release, table_id) if dataset.is_monthly else ()
    return StagedFile(table_id, rows, days, source.columns, job.job_id)


def drop_staged(client: Client, staged: StagedFile) -> None:
    """Deletes the staging table, which would otherwise expire."""
    client.delete_table(staged.table_id, not_found_ok=True, timeout=REQUEST_SECONDS)


def sort_days(days: Collection[datetime.date | None]) -> Days:
    """Sorts days, with None last."""
    return tuple(sorted(days, key=lambda day: (day is None, day or datetime.date.min)))


def _check_unchanged(project: GoogleProject, release: Release, source: ReleaseObject) -> None:
    now = find_object(project, release)
    if now is None or now.generation != source.generation:
        raise ConcurrentUpdate


def _days(client: Client, project: GoogleProject, release: Release, table_id: str) -> Days:
    dataset = release.dataset
    query = statement("select_days", event_time=dataset.event_time or "", staging=quoted(table_id))
    config = query_config(project, job_labels(dataset, release.filename, "days"))
    try:
        return sort_days([row.day for row in run_query(client, query, config)])
    except exceptions.NotFound:  # another worker has finished the load and dropped the table
        raise ConcurrentUpdate from None
