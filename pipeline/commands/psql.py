"""`pipeline psql`: opens psql on the configured database."""

from __future__ import annotations

import os

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from pipeline.errors import PipelineError
from pipeline.warehouses.postgres.connection import NOT_A_DSN
from pipeline.warehouses.postgres.embedded_programs import program
from pipeline.warehouses.postgres.warehouse import configured_database


def run(commands: list[str], rest: list[str]) -> int:
    """Replaces this process by psql, with `rest` as its options; does not return.

    The password is passed in the environment, because other users could read it in the arguments.
    """
    psql = str(program("psql"))  # with its full path, because otherwise psql searches PATH for itself
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
