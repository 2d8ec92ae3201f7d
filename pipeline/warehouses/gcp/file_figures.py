"""A file's figures, as BigQuery computes them."""

from __future__ import annotations

import contextlib

from pipeline.datasets import Column, DatasetSpec
from pipeline.warehouses.figures import FileFigures, figures_of, is_summed
from pipeline.warehouses.gcp.faults import explained
from pipeline.warehouses.gcp.jobs import REQUEST_SECONDS, JobObserver, job_labels, query_config, run_query
from pipeline.warehouses.gcp.ledger import GcpLedgerEntry
from pipeline.warehouses.gcp.project import GcpProject
from pipeline.warehouses.gcp.staging import Days
from pipeline.warehouses.gcp.statements import on_days, quoted, statement, text_of


def file_figures(project: GcpProject, spec: DatasetSpec, entry: GcpLedgerEntry, observer: JobObserver) -> FileFigures:
    """The figures of a loaded file's rows, by the day of the event; only the partitions of its days are read.

    :raises PipelineError: when BigQuery cannot tell.
    """
    filename = entry.object_uri.rsplit("/", 1)[-1]
    query = figures_statement(project, spec, entry.days)
    config = query_config(project, job_labels(spec, filename, "reconcile"), filename=filename)
    with (
        explained(f"{entry.partition_key} was not compared"),
        contextlib.closing(project.bigquery()) as client,
    ):
        job = run_query(client, f"adding up {filename}", query, config, observer)
        return figures_of(spec, [row.values() for row in job.result(timeout=REQUEST_SECONDS)])


def figures_statement(project: GcpProject, spec: DatasetSpec, days: Days) -> str:
    """The query for a file's figures."""
    return statement(
        "select_file_figures",
        table=quoted(project.table_id(spec.table)),
        event_time=quoted(spec.event_time or ""),
        figures=", ".join(map(_figures, spec.columns)),
        loaded_days=on_days(spec, "loaded", days),
    )


def _figures(column: Column) -> str:
    name = quoted(column.name)
    if is_summed(column):
        return f"COUNT({name}), SUM(CAST({name} AS NUMERIC))"
    digits = f"SUBSTR(TO_HEX(MD5({text_of(column)})), 1, 10)"
    return f"COUNT({name}), SUM(IF({name} IS NULL, NULL, CAST(CONCAT('0x', {digits}) AS INT64)))"
