"""Composes SQL for BigQuery from the statements in `sql/bigquery/`, quoted names and expressions."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection

from pipeline.datasets import Column, Dataset
from pipeline.files import named_statements


def statement(name: str, /, **parts: str) -> str:
    """Returns a statement of `sql/bigquery/` with its `{placeholders}` replaced by `parts`."""
    return named_statements("bigquery")[name].format(**parts)


def quoted(name: str) -> str:
    """Returns a quoted identifier.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#quoted_identifiers
    """
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def column_list(dataset: Dataset) -> str:
    """Returns the spec's columns as a comma-separated list."""
    return ", ".join(map(quoted, dataset.column_names))


def staged_columns(dataset: Dataset, staged: Collection[str]) -> str:
    """Returns a select list of all columns of the spec, with NULL for those that the staged file lacks."""
    return ", ".join(
        quoted(column.name)
        if column.name in staged
        else f"CAST(NULL AS {column.bigquery_type}) AS {quoted(column.name)}"
        for column in dataset.columns
    )


def column_text(column: Column) -> str:
    """Returns an expression for a column's value in PostgreSQL's text format, on which the row id depends; NULL is ''.

    BigQuery formats times as `2020-04-01 00:44:02.500+00`, PostgreSQL as `2020-04-01 00:44:02.5`. Double precision has
    the same text in both for up to 15 digits. The texts differ for some numbers of 16 or 17 digits, for -0, whose sign
    BigQuery drops, and for PostgreSQL's `numeric` with trailing zeros (8.50), which BigQuery drops.
    """
    text = f"CAST({quoted(column.name)} AS STRING)"
    if column.postgres_type == "double precision":
        # Like PostgreSQL, FLOAT64 is written with an exponent from 1e+15 and below 1e-04; NUMERIC never is.
        text = f"CAST(CAST({quoted(column.name)} AS FLOAT64) AS STRING)"
    if column.bigquery_type == "TIMESTAMP":
        text = f"REGEXP_REPLACE(REGEXP_REPLACE({text}, r'\\+00$', ''), r'(\\.\\d*[1-9])0+$', r'\\1')"
    return f"COALESCE({text}, '')"


def key_text(dataset: Dataset) -> str:
    """Returns an expression for the text of a row's key; the row id is its MD5 unless other rows have the same key."""
    columns = {column.name: column for column in dataset.columns}

    def text(name: str) -> str:
        value = column_text(columns[name])
        blank_with = dataset.key_blanks.get(name)
        return f"IF({quoted(blank_with)} IS NULL, '', {value})" if blank_with else value

    return f"CONCAT({', '.join(map(text, dataset.row_key))})"


def row_text(dataset: Dataset, text: Callable[[Column], str] = column_text) -> str:
    """Returns an expression for the canonical text of a row, by which rows are compared and ordered within a key.

    Strings are compared by code points, which is the order of their bytes in UTF-8.
    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#string_type
    """
    separated = ", ',', ".join(map(text, dataset.columns))
    return f"CONCAT({separated})"


def comparable_text(dataset: Dataset) -> str:
    """Returns an expression for the text of a row that PostgreSQL has for the same values; amounts as NUMERIC.

    Other than `row_text`, it does not depend on how a floating-point number is written.
    """

    def text(column: Column) -> str:
        if not column.is_amount:
            return column_text(column)
        return f"COALESCE(CAST(CAST({quoted(column.name)} AS NUMERIC) AS STRING), '')"

    return row_text(dataset, text)


def null_texts(dataset: Dataset) -> str:
    """Returns an expression that distinguishes NULL from the empty text, which are the same in `row_text`.

    NULL comes after the empty text, as in PostgreSQL's text of a row.
    """
    texts = (quoted(column.name) for column in dataset.columns if column.postgres_type == "text")
    marks = ["''", *(f"IF({text} IS NULL, '1', '0')" for text in texts)]
    return f"CONCAT({', '.join(marks)})"


def days_condition(dataset: Dataset, table: str, days: Collection[datetime.date | None]) -> str:
    """Returns a condition for a table's rows on these days; None stands for rows without a time.

    Consecutive days become one range of constants on the column itself, so that BigQuery can prune partitions of any
    length. https://cloud.google.com/bigquery/docs/querying-partitioned-tables#better_performance_with_pseudo-columns
    """
    time = f"{quoted(table)}.{quoted(dataset.event_time or '')}"
    conditions = [_between(time, first, last) for first, last in _ranges(sorted(day for day in days if day))]
    conditions += [f"{time} IS NULL"] if None in days else []
    return f"({' OR '.join(conditions)})" if conditions else "FALSE"


def _ranges(days: list[datetime.date]) -> list[tuple[datetime.date, datetime.date]]:
    """Returns the first and the last day of each sequence of consecutive days."""
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
