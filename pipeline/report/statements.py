"""The report's queries, in the SQL that every warehouse takes."""

from __future__ import annotations

from pipeline.warehouses.statements import named_statements


def statement(name: str) -> str:
    """The query of that name in `sql/report/`, with `{placeholders}` for tables."""
    return named_statements("report")[name]
