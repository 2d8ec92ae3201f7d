"""`pipeline psql`: PostgreSQL's own prompt on the configured database."""

from __future__ import annotations

import os

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from pipeline.errors import PipelineError
from pipeline.warehouses.postgres.connection import NOT_A_DSN
from pipeline.warehouses.postgres.embedded import program
from pipeline.warehouses.postgres.warehouse import configured_database


def run(commands: list[str], rest: list[str]) -> int:
    """Becomes psql, given the rest as options of its own; does not return.

    No password is in its arguments, where other users could read it.
    """
    psql = str(program("psql"))  # by its path, or it would look for itself in PATH
    if {"--help", "-?", "--version", "-V"} & set(rest):
        os.execv(psql, [psql, *rest])
    database = configured_database()
    try:
        parts = parse_dsn(database.resolved_dsn())
    except psycopg2.ProgrammingError:
        raise PipelineError(NOT_A_DSN) from None
    environment = database.process_environment()
    if password := parts.pop("password", None):
        environment["PGPASSWORD"] = password
    given = parts.get("options") or environment.get("PGOPTIONS", "")
    parts["options"] = f"{given} -c search_path={_option_value(database.schema)},public".strip()
    arguments = [psql, "--set=ON_ERROR_STOP=1", make_dsn(**parts)]
    for command in commands:
        arguments += ["--command", command]
    os.execve(psql, arguments + rest, environment)


def _option_value(schema: str) -> str:
    quoted = '"' + schema.replace('"', '""') + '"'
    return quoted.replace("\\", "\\\\").replace(" ", "\\ ")
