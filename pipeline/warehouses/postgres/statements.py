"""SQL statements: one a file in `sql/postgres`, with identifiers composed in and values bound."""

from __future__ import annotations

import functools

from psycopg2 import sql

from pipeline.files import CHECKOUT

FOLDER = CHECKOUT / "sql" / "postgres"


@functools.cache
def _text(name: str) -> sql.SQL:
    return sql.SQL((FOLDER / f"{name}.sql").read_text())


def statement(name: str, /, **parts: sql.Composable) -> sql.Composed:
    """The statement in `sql/postgres/<name>.sql`, its `{placeholders}` replaced by composed parts."""
    return _text(name).format(**parts)
