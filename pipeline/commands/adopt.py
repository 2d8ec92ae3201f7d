"""`pipeline adopt`: takes over a table that the course's Kestra flows have created."""

from __future__ import annotations

import sys

import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

from pipeline.datasets import dataset_named
from pipeline.errors import INTERRUPTED, PipelineError
from pipeline.settings import StorageSettings
from pipeline.tasks.load import load_task
from pipeline.warehouses import warehouse_info
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres.adoption import KEPT_AS, adopt
from pipeline.warehouses.postgres.warehouse import configured_database


def run(name: str, recompute_ids: bool) -> int:
    """Adopts a dataset's table; prints each file when its rows are adopted, and the next commands.

    :raises PipelineError: if the table was not created by the flows; nothing is changed then.
    """
    if not warehouse_info("postgres").exists():
        folder = StorageSettings().postgres_folder()
        raise PipelineError(f"there is no database in {folder}; [postgres] dsn names the one that the flows load into")
    psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)  # lets ctrl-C cancel a statement
    dataset, database = dataset_named(name), configured_database()
    try:
        entries = adopt(database, dataset, load_task("postgres", dataset), recompute_ids, _show)
    except PipelineError as error:
        if not isinstance(error.__cause__, psycopg2.errors.QueryCanceled):
            raise
        print("pipeline: interrupted; nothing has changed", file=sys.stderr)
        return INTERRUPTED
    rows = sum(entry.rows_loaded for entry in entries)
    months = f"{len(entries)} month{'s' if len(entries) > 1 else ''}"
    print(
        f"{database.schema}.{dataset.table}: {rows:,} rows of {months} adopted;"
        f" the old table is kept as {KEPT_AS.format(dataset.table)}, which you may drop.\n"
        "Next: pipeline status; pipeline build"
    )
    return 0


def _show(entry: LedgerEntry, number: int, files: int) -> None:
    aside = f", {entry.rows_duplicate:,} set aside in load_quarantine" if entry.rows_duplicate else ""
    print(f"{number} of {files} {entry.partition_key}: {entry.rows_loaded:,} rows{aside}", file=sys.stderr, flush=True)
