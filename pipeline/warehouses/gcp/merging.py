"""Merges a staged file into its table: one statement puts its rows in the place of those that the file had there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.datasets import DatasetSpec
from pipeline.datasets.own_tables import QUARANTINE
from pipeline.errors import PipelineError
from pipeline.warehouses.gcp.jobs import (
    REQUEST_SECONDS,
    JobFailed,
    JobObserver,
    job_labels,
    query_config,
    run_job,
    settle,
)
from pipeline.warehouses.gcp.ledger import Overtaken
from pipeline.warehouses.gcp.project import GcpProject
from pipeline.warehouses.gcp.staging import Days, StagedFile
from pipeline.warehouses.gcp.statements import columns_of, on_days, quoted, row_id_text, row_text, statement

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.bigquery.job import QueryJob


_STEPS = ("merge", "quarantine", "delete", "clear")


@dataclass(frozen=True)
class FileRows:
    """The rows of one file in its table, and the days in which they may lie."""

    spec: DatasetSpec
    filename: str
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
    observer: JobObserver

    def merge(self, staged: StagedFile, claim: str) -> Merged:
        """Puts the staged rows in, but for those whose id comes again in the file or is there from another file.

        :raises PipelineError: with BigQuery's message; the table holds what it held.
        :raises Overtaken: when one of the tables is gone.
        """
        sql = merge_statement(self.project, self.rows, staged.table_id)
        job = self._run("merge", sql, claim)
        return Merged(_inserted(job), str(job.job_id))

    def quarantine_duplicates(self, staged: StagedFile, claim: str, expected: int) -> str:
        """Keeps the rows that were not put in, in the place of those kept of this file before; returns the job's id.

        :raises PipelineError: when they are not as many as expected.
        """
        sql = quarantine_statement(self.project, self.rows, staged.table_id)
        job = self._run("quarantine", sql, claim, target_table=self.rows.spec.table)
        if (found := _inserted(job)) != expected:
            raise PipelineError(
                f"{self.rows.filename}: {expected:,} rows are duplicates and {found:,} were kept in {QUARANTINE}; was"
                f" {self.rows.spec.table} changed by others meanwhile? Run again"
            )
        return str(job.job_id)

    def delete_rows(self, claim: str) -> None:
        """Removes the file's rows from its table and from the quarantine; tables that are gone need no removing."""
        spec = self.rows.spec
        statements = {"delete": delete_statement(self.project, self.rows)}
        if spec.is_monthly:
            statements["clear"] = statement("clear_quarantine", quarantine=quoted(self.project.table_id(QUARANTINE)))
        for step, sql in statements.items():
            try:
                self._run(step, sql, claim, **({"target_table": spec.table} if step == "clear" else {}))
            except Overtaken:
                continue

    def settle(self, claim: str) -> None:
        """Returns when nothing that was begun under another claim can change the file's rows any more."""
        for step in _STEPS:
            settle(self.client, self._job_name(step, claim))

    def _run(self, step: str, sql: str, claim: str, **values: str) -> QueryJob:
        from google.api_core import exceptions

        filename, name = self.rows.filename, self._job_name(step, claim)
        values |= {"filename": filename} if self.rows.spec.is_monthly else {}
        config = query_config(self.project, job_labels(self.rows.spec, filename, step), **values)

        def submit(job_id: str) -> QueryJob:
            return self.client.query(sql, job_config=config, job_id=job_id, job_retry=None, timeout=REQUEST_SECONDS)

        try:
            job: QueryJob = run_job(self.client, name, f"{step} {filename}", submit, self.observer)
        except exceptions.NotFound:
            raise Overtaken from None
        except JobFailed as error:
            if error.reason == "notFound":  # as BigQuery has it when a table goes after the job was taken on
                raise Overtaken from None
            raise PipelineError(f"{filename}, {step}: {error}") from error
        return job

    def _job_name(self, step: str, claim: str) -> str:
        return f"tlc_{step}_{self.rows.spec.table}_{claim}"


def _inserted(job: QueryJob) -> int:
    assert job.dml_stats is not None
    return int(job.dml_stats.inserted_row_count)


def merge_statement(project: GcpProject, rows: FileRows, staging: str) -> str:
    """The MERGE of a staged file; for a look-up table, which is one file, of all there is."""
    spec = rows.spec
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
        table=quoted(project.table_id(rows.spec.table)),
        identified_rows=_identified_rows(rows, staging),
        other_days=on_days(rows.spec, "other", rows.days),
    )


def delete_statement(project: GcpProject, rows: FileRows) -> str:
    """The statement that removes a file's rows."""
    table = quoted(project.table_id(rows.spec.table))
    if not rows.spec.is_monthly:
        return statement("delete_lookup", table=table)
    return statement("delete_file", table=table, loaded_days=on_days(rows.spec, "loaded", rows.days))


def _identified_rows(rows: FileRows, staging: str) -> str:
    return statement(
        "identified_rows",
        columns=columns_of(rows.spec),
        row_id_text=row_id_text(rows.spec),
        row_text=row_text(rows.spec),
        staging=quoted(staging),
    )
