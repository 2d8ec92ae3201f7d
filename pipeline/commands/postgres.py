"""`pipeline psql`, `adopt` and `stop`: the configured PostgreSQL database, the embedded server included."""

from __future__ import annotations

import argparse
import os
import sys

import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

from pipeline.commands import Commands, add_command, add_dataset
from pipeline.datasets import dataset_named, monthly_names
from pipeline.errors import INTERRUPTED, PipelineError, counted
from pipeline.settings import PostgresSettings, StorageSettings
from pipeline.tasks.load import load_task
from pipeline.warehouses import warehouse_info
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres.adoption import KEPT_AS, adopt
from pipeline.warehouses.postgres.connection import NOT_A_DSN
from pipeline.warehouses.postgres.embedded import stop
from pipeline.warehouses.postgres.embedded_programs import program
from pipeline.warehouses.postgres.warehouse import configured_database


def add_commands(commands: Commands) -> None:
    """Declares the commands."""
    summary = "open psql on the configured database; takes psql's own options"
    command = add_command(commands, "psql", summary, _psql, takes_more=True)
    command.add_argument(
        "-c", "--command", metavar="SQL", action="append", default=[], help="run this and exit; may be repeated"
    )

    command = add_command(commands, "adopt", "take over a table that the course's Kestra flows have loaded", _adopt)
    add_dataset(command, monthly_names(), ": the dataset of the table")
    command.add_argument(
        "--recompute-ids", action="store_true", help="also adopt rows with other ids, and recompute these"
    )

    add_command(commands, "stop", "stop the embedded PostgreSQL now (it stops by itself when it is unused)", _stop)


def _psql(arguments: argparse.Namespace) -> int:
    """Replaces this process by psql, with `rest` as its options; does not return.

    The password is passed in the environment, because other users could read it in the arguments.
    """
    psql = str(program("psql"))  # with its full path, because otherwise psql searches PATH for itself
    if {"--help", "-?", "--version", "-V"} & set(arguments.rest):
        os.execv(psql, [psql, *arguments.rest])
    database = configured_database()
    try:
        parts = psycopg2.extensions.parse_dsn(database.resolved_dsn())
    except psycopg2.ProgrammingError:
        raise PipelineError(NOT_A_DSN) from None
    environment = database.process_environment()
    if password := parts.pop("password", None):
        environment["PGPASSWORD"] = password
    given = parts.get("options") or environment.get("PGOPTIONS", "")
    parts["options"] = f"{given} -c search_path={_option_value(database.schema)},public".strip()
    commands = [f"--command={command}" for command in arguments.command]
    dsn = psycopg2.extensions.make_dsn(**parts)
    os.execve(psql, [psql, "--set=ON_ERROR_STOP=1", dsn, *commands, *arguments.rest], environment)


def _option_value(schema: str) -> str:
    quoted = '"' + schema.replace('"', '""') + '"'
    return quoted.replace("\\", "\\\\").replace(" ", "\\ ")


def _adopt(arguments: argparse.Namespace) -> int:
    """Adopts a dataset's table; prints each file when its rows are adopted, and the next commands.

    :raises PipelineError: if the table was not created by the flows; nothing is changed then.
    """
    if not warehouse_info("postgres").exists():
        folder = StorageSettings().postgres_folder()
        raise PipelineError(f"there is no database in {folder}; set [postgres] dsn to the one that the flows load into")
    psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)  # lets ctrl-C cancel a statement
    dataset, database = dataset_named(arguments.dataset), configured_database()
    try:
        entries = adopt(database, dataset, load_task("postgres", dataset), arguments.recompute_ids, _show_adopted)
    except PipelineError as error:
        if not isinstance(error.__cause__, psycopg2.errors.QueryCanceled):
            raise
        print("pipeline: interrupted; nothing has changed", file=sys.stderr)
        return INTERRUPTED
    rows = sum(entry.rows_loaded for entry in entries)
    print(
        f"{database.schema}.{dataset.table}: {counted(rows, 'row')} of {counted(len(entries), 'month')} adopted;"
        f" the old table is kept as {KEPT_AS.format(dataset.table)}, which you can drop.\n"
        "Next: pipeline status; pipeline build"
    )
    return 0


def _show_adopted(entry: LedgerEntry, number: int, files: int) -> None:
    aside = f", {entry.rows_duplicate:,} set aside in load_quarantine" if entry.rows_duplicate else ""
    print(
        f"{number} of {files} {entry.partition_key}: {counted(entry.rows_loaded, 'row')}{aside}",
        file=sys.stderr,
        flush=True,
    )


def _stop(_: argparse.Namespace) -> int:
    folder = StorageSettings().postgres_folder()
    if PostgresSettings().dsn:
        print("[postgres] dsn is set, so there is no embedded PostgreSQL to stop")
    else:
        print(f"the embedded PostgreSQL in {folder} {'has stopped' if stop(folder) else 'was not running'}")
    return 0
