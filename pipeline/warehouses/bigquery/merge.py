"""Merges a staged file into its table: one statement puts its rows in the place of those that the file had there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.datasets import Release
from pipeline.datasets.spec import QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses import LoadObserver
from pipeline.warehouses.bigquery.client import GcpProject
from pipeline.warehouses.bigquery.jobs import (
    REQUEST_SECONDS,
    JobFailed,
    job_labels,
    query_config,
    run_job,
    wait_for_jobs,
)
from pipeline.warehouses.bigquery.ledger import ConcurrentUpdate
from pipeline.warehouses.bigquery.sql_text import columns_of, on_days, quoted, row_id_text, row_text, statement
from pipeline.warehouses.bigquery.staging import Days, StagedFile

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.bigquery.job import QueryJob


_STEPS = ("merge", "quarantine", "delete", "clear")


@dataclass(frozen=True)
class FileRows:
    """The rows of one file in its table, and the days in which they may lie."""

    release: Release
    days: Days


@dataclass(frozen=True)
class Merged:
    """What a MERGE did: so many rows of the file are in the table now, and no others."""

    rows: int
    job_id: str


@dataclass(frozen=True)
class Merger:
    """Changes the rows of one file in BigQuery. Only the partitions of its days are read and paid for."""

    client: Client
    project: GcpProject
    rows: FileRows
    observer: LoadObserver

    def merge(self, staged: StagedFile, claim: str) -> Merged:
        """Puts the staged rows in, but for those whose id comes again in the file or is there from another file.

        :raises PipelineError: with BigQuery's message; the table holds what it held.
        :raises ConcurrentUpdate: when one of the tables is gone.
        """
        sql = merge_statement(self.project, self.rows, staged.table_id)
        job = self._run("merge", sql, claim)
        return Merged(_inserted(job), str(job.job_id))

    def quarantine_duplicates(self, staged: StagedFile, claim: str, expected: int) -> str:
        """Keeps the rows that were not put in, in the place of those kept of this file before; returns the job's id.

        :raises PipelineError: when they are not as many as expected.
        """
        sql = quarantine_statement(self.project, self.rows, staged.table_id)
        job = self._run("quarantine", sql, claim, target_table=self.rows.release.table)
        if (found := _inserted(job)) != expected:
            raise PipelineError(
                f"{self.rows.release.filename}: {expected:,} rows are duplicates and {found:,} were kept in"
                f" {QUARANTINE}; was {self.rows.release.table} changed by others meanwhile? Run again"
            )
        return str(job.job_id)

    def delete_rows(self, claim: str) -> None:
        """Removes the file's rows from its table and from the quarantine; tables that are gone need no removing."""
        spec = self.rows.release.dataset
        statements = {"delete": delete_statement(self.project, self.rows)}
        if spec.is_monthly:
            statements["clear"] = statement("clear_quarantine", quarantine=quoted(self.project.table_id(QUARANTINE)))
        for step, sql in statements.items():
            try:
                self._run(step, sql, claim, **({"target_table": spec.table} if step == "clear" else {}))
            except ConcurrentUpdate:
                continue

    def wait_for_jobs(self, claim: str) -> None:
        """Returns when nothing that was begun under another claim can change the file's rows any more."""
        for step in _STEPS:
            wait_for_jobs(self.client, self._job_name(step, claim))

    def _run(self, step: str, sql: str, claim: str, **values: str) -> QueryJob:
        from google.api_core import exceptions

        filename, name = self.rows.release.filename, self._job_name(step, claim)
        values |= {"filename": filename} if self.rows.release.dataset.is_monthly else {}
        config = query_config(self.project, job_labels(self.rows.release.dataset, filename, step), **values)

        def submit(job_id: str) -> QueryJob:
            return self.client.query(sql, job_config=config, job_id=job_id, job_retry=None, timeout=REQUEST_SECONDS)

        try:
            job: QueryJob = run_job(self.client, name, f"{step} {filename}", submit, self.observer)
        except exceptions.NotFound:
            raise ConcurrentUpdate from None
        except JobFailed as error:
            if error.reason == "notFound":  # as BigQuery has it when a table goes after the job was taken on
                raise ConcurrentUpdate from None
            raise PipelineError(f"{filename}, {step}: {error}") from error
        return job

    def _job_name(self, step: str, claim: str) -> str:
        return f"tlc_{step}_{self.rows.release.table}_{claim}"


def _inserted(job: QueryJob) -> int:
    assert job.dml_stats is not None
    return int(job.dml_stats.inserted_row_count)


def merge_statement(project: GcpProject, rows: FileRows, staging: str) -> str:
    """The MERGE of a staged file; for a look-up table, which is one file, of all there is."""
    spec = rows.release.dataset
    parts = {"table": quoted(project.table_id(spec.table)), "columns": columns_of(spec)}
    if not spec.is_monthly:
        return statement("merge_lookup", staging=quoted(staging), **parts)
    return statement(
        "merge_file",
        identified_rows=_identified_rows(rows, staging),
        other_days=on_days(spec, "other", rows.days),
        loaded_days=on_days(spec, "loaded", rows.days),
        **parts,
    )


def quarantine_statement(project: GcpProject, rows: FileRows, staging: str) -> str:
    """The statement that keeps the rows which `merge_statement` leaves out."""
    return statement(
        "quarantine_duplicates",
        quarantine=quoted(project.table_id(QUARANTINE)),
        table=quoted(project.table_id(rows.release.table)),
        identified_rows=_identified_rows(rows, staging),
        other_days=on_days(rows.release.dataset, "other", rows.days),
    )


def delete_statement(project: GcpProject, rows: FileRows) -> str:
    """The statement that removes a file's rows."""
    table = quoted(project.table_id(rows.release.table))
    if not rows.release.dataset.is_monthly:
        return statement("delete_lookup", table=table)
    return statement("delete_file", table=table, loaded_days=on_days(rows.release.dataset, "loaded", rows.days))


def _identified_rows(rows: FileRows, staging: str) -> str:
    return statement(
        "identified_rows",
        columns=columns_of(rows.release.dataset),
        row_id_text=row_id_text(rows.release.dataset),
        row_text=row_text(rows.release.dataset),
        staging=quoted(staging),
    )
