"""`pipeline psql`: PostgreSQL's own prompt on the configured database."""

from __future__ import annotations

import os

from psycopg2.extensions import make_dsn, parse_dsn

from pipeline.settings import postgres
from pipeline.warehouses.postgres.embedded import program


def run(commands: list[str]) -> int:
    """Becomes psql; does not return. No password is in its arguments, where other users could read it."""
    database = postgres().database()
    parts = parse_dsn(database.dsn)
    if password := parts.pop("password", None):
        os.environ["PGPASSWORD"] = password
    given = parts.get("options") or os.environ.get("PGOPTIONS", "")
    parts["options"] = f"{given} -c search_path={_option_value(database.schema)},public".strip()
    arguments = ["psql", "--set=ON_ERROR_STOP=1", make_dsn(**parts)]
    for command in commands:
        arguments += ["--command", command]
    os.execv(program("psql"), arguments)


def _option_value(schema: str) -> str:
    quoted = '"' + schema.replace('"', '""') + '"'
    return quoted.replace("\\", "\\\\").replace(" ", "\\ ")
