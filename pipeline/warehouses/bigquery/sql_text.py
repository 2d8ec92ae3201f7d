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


def staged_columns(spec: Dataset, staged: Collection[str]) -> str:
    """All columns of the spec, NULL for those that the staged file has not."""
    return ", ".join(
        quoted(column.name)
        if column.name in staged
        else f"CAST(NULL AS {column.bigquery_type}) AS {quoted(column.name)}"
        for column in spec.columns
    )


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


def key_text(spec: Dataset) -> str:
    """The text of a row's key, whose MD5 its id is unless other rows have the same key."""
    columns = {column.name: column for column in spec.columns}

    def text(name: str) -> str:
        found = text_of(columns[name])
        blank_with = spec.key_blanks.get(name)
        return f"IF({quoted(blank_with)} IS NULL, '', {found})" if blank_with else found

    return f"CONCAT({', '.join(map(text, spec.row_key))})"


def row_text(spec: Dataset) -> str:
    """The canonical text of a row: by it rows are the same, and in its order those that share a key are numbered.

    Strings are compared by their code points, which is the order of their bytes in UTF-8.
    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#string_type
    """
    separated = ", ',', ".join(map(text_of, spec.columns))
    return f"CONCAT({separated})"


def on_days(spec: Dataset, table: str, days: Collection[datetime.date | None]) -> str:
    """A condition that holds for a table's rows of these days, None standing for rows without a time.

    Days in a row are one range of constants on the column itself, by which BigQuery leaves out partitions of whatever
    length. https://cloud.google.com/bigquery/docs/querying-partitioned-tables#better_performance_with_pseudo-columns
    """
    time = f"{quoted(table)}.{quoted(spec.event_time or '')}"
    conditions = [_between(time, first, last) for first, last in _ranges(sorted(day for day in days if day))]
    conditions += [f"{time} IS NULL"] if None in days else []
    return f"({' OR '.join(conditions)})" if conditions else "FALSE"


def _ranges(days: list[datetime.date]) -> list[tuple[datetime.date, datetime.date]]:
    """The first and the last of each run of days without a gap."""
    ranges: list[tuple[datetime.date, datetime.date]] = []
    for day in days:
        if ranges and (day - ranges[-1][1]).days == 1:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def _between(time: str, first: datetime.date, last: datetime.date) -> str:
    condition = f"{time} >= TIMESTAMP '{first.isoformat()} 00:00:00+00'"
    if last == datetime.date.max:
        return condition
    return f"({condition} AND {time} < TIMESTAMP '{(last + datetime.timedelta(days=1)).isoformat()} 00:00:00+00')"
