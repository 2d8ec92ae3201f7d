"""Checksums of a file's rows that are equal in all warehouses, and their comparison."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.datasets import Column, Dataset
from pipeline.errors import counted

_NUMBERS = {"INT64", "NUMERIC", "BIGNUMERIC", "FLOAT64"}
_WHOLE_NUMBERS = {"integer", "bigint"}

Day = datetime.date | None


@dataclass(frozen=True)
class DayChecksums:
    """One day's row count, order-independent digests of the row ids and of the whole rows, and each column's count and
    sum of values.

    Sums of numbers are exact. For other types, the first 40 bits of the MD5 of each value's text are summed. Sums do
    not show which row has which value; the digest of the rows does.
    """

    rows: int
    ids: tuple[Decimal, Decimal]
    contents: Decimal
    values: Mapping[str, int]
    sums: Mapping[str, Decimal]


FileChecksums = Mapping[Day, DayChecksums]
_NO_ROWS = DayChecksums(0, (Decimal(), Decimal()), Decimal(), {}, {})


def is_summed(column: Column) -> bool:
    """Returns whether the column is a number in both warehouses, so that sums of its values can be compared."""
    return column.bigquery_type in _NUMBERS and (column.is_amount or column.postgres_type in _WHOLE_NUMBERS)


def checksums_from_rows(dataset: Dataset, rows: list[tuple[Any, ...]]) -> FileChecksums:
    """Returns the checksums in rows of (day, row count, two digests of the ids, one of the rows, count and sum of each
    column of the spec)."""
    return {
        row[0]: DayChecksums(
            rows=row[1],
            ids=(Decimal(row[2]), Decimal(row[3])),
            contents=Decimal(row[4]),
            values=dict(zip(dataset.column_names, row[5::2], strict=True)),
            sums={name: Decimal(total or 0) for name, total in zip(dataset.column_names, row[6::2], strict=True)},
        )
        for row in rows
    }


def differences(postgres: FileChecksums, bigquery: FileChecksums) -> list[str]:
    """Returns one line for each difference, ordered by day; empty if both warehouses hold the same rows."""
    found = []
    for day in sorted({*postgres, *bigquery}, key=lambda day: (day is None, day or datetime.date.min)):
        lines = _day_differences(postgres.get(day, _NO_ROWS), bigquery.get(day, _NO_ROWS))
        found += [f"{day or 'without a time'}: {line}" for line in lines]
    return found


def _day_differences(postgres: DayChecksums, bigquery: DayChecksums) -> list[str]:
    if postgres.rows != bigquery.rows:
        return [f"{counted(postgres.rows, 'row')} in PostgreSQL, {bigquery.rows:,} in BigQuery"]
    if postgres.ids != bigquery.ids:
        return ["the same number of rows, but not the same rows"]
    lines = []
    for name, values in postgres.values.items():
        if values != bigquery.values[name]:
            lines.append(f"{name} has {values:,} values in PostgreSQL, {bigquery.values[name]:,} in BigQuery")
        elif postgres.sums[name] != bigquery.sums[name]:
            lines.append(f"{name} sums to {postgres.sums[name]:,f} in PostgreSQL, {bigquery.sums[name]:,f} in BigQuery")
    if not lines and postgres.contents != bigquery.contents:
        return ["each column has the same sum, but some values are in other rows"]
    return lines
