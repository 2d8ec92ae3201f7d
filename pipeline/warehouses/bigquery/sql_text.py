"""SQL for BigQuery: the statements of `sql/bigquery/`, with quoted names composed in and values bound."""

from __future__ import annotations

import datetime
from collections.abc import Collection

from pipeline.datasets import Column, Dataset
from pipeline.warehouses.statements import named_statements


def statement(name: str, /, **parts: str) -> str:
    """The statement of that name in `sql/bigquery/`, its `{placeholders}` replaced by composed parts."""
    return named_statements("bigquery")[name].format(**parts)


def quoted(name: str) -> str:
    """An identifier, whatever is in it.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#quoted_identifiers
    """
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def columns_of(spec: Dataset) -> str:
    """The file's columns as a list, in the spec's order."""
    return ", ".join(map(quoted, spec.column_names))


def text_of(column: Column) -> str:
    """The column's value as PostgreSQL writes it as text, which the row id depends on bit for bit; NULL as ''.

    BigQuery writes times as `2020-04-01 00:44:02.500+00`, PostgreSQL as `2020-04-01 00:44:02.5`. Double precision is
    the same text in both for numbers of up to 15 digits, whatever their size, and differs for some of 16 or 17 and for
    -0, whose sign BigQuery drops; so do PostgreSQL's `numeric` with zeros at the end (8.50), which BigQuery drops.
    """
    text = f"CAST({quoted(column.name)} AS STRING)"
    if column.postgres_type == "double precision":
        # BigQuery's FLOAT64 turns to exponents where PostgreSQL does (1e+15, 1e-05), its NUMERIC never.
        text = f"CAST(CAST({quoted(column.name)} AS FLOAT64) AS STRING)"
    if column.bigquery_type == "TIMESTAMP":
        text = f"REGEXP_REPLACE(REGEXP_REPLACE({text}, r'\\+00$', ''), r'(\\.\\d*[1-9])0+$', r'\\1')"
    return f"COALESCE({text}, '')"


def row_id_text(spec: Dataset) -> str:
    """What a row's id is the MD5 of."""
    columns = {column.name: column for column in spec.columns}
    return f"CONCAT({', '.join(text_of(columns[name]) for name in spec.row_key)})"


def row_text(spec: Dataset) -> str:
    """The whole row as text, in whose order the first of several rows with one id stays, as in PostgreSQL."""
    separated = ", ',', ".join(map(text_of, spec.columns))
    return f"CONCAT({separated})"


def on_days(spec: Dataset, table: str, days: Collection[datetime.date | None]) -> str:
    """A condition that holds for a table's rows of these days, None standing for rows without a time.

    The days are literals, as BigQuery leaves out partitions by constants only.
    https://cloud.google.com/bigquery/docs/querying-partitioned-tables#better_performance_with_pseudo-columns
    """
    time = f"{quoted(table)}.{quoted(spec.event_time or '')}"
    literals = [f"DATE '{day.isoformat()}'" for day in sorted(day for day in days if day)]
    conditions = [f"DATE({time}) IN ({', '.join(literals)})"] if literals else []
    conditions += [f"{time} IS NULL"] if None in days else []
    return f"({' OR '.join(conditions)})" if conditions else "FALSE"
