"""Checksums of a file's rows, the same in whichever warehouse they are computed, and how two sets of them differ."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.datasets import Column, Dataset

_NUMBERS = {"INT64", "NUMERIC", "BIGNUMERIC", "FLOAT64"}
_POSTGRES_NUMBERS = {"integer", "bigint", "double precision", "numeric"}

Day = datetime.date | None


@dataclass(frozen=True)
class DayChecksums:
    """One day's rows: how many, an order-free digest of their ids, and for each column how many values and their sum.

    Of a number the sum is exact; of anything else it is that of the first 40 bits of the MD5 of each value's text.
    """

    rows: int
    ids: tuple[Decimal, Decimal]
    values: Mapping[str, int]
    sums: Mapping[str, Decimal]


FileChecksums = Mapping[Day, DayChecksums]


def is_summed(column: Column) -> bool:
    """Whether the column is a number in both warehouses, so that its sum can be compared."""
    return column.bigquery_type in _NUMBERS and column.postgres_type in _POSTGRES_NUMBERS


def checksums_of(spec: Dataset, rows: list[tuple[Any, ...]]) -> FileChecksums:
    """The checksums in rows of (day, rows, two digests of the ids, then values and sum of each column of the spec)."""
    return {
        row[0]: DayChecksums(
            rows=row[1],
            ids=(Decimal(row[2]), Decimal(row[3])),
            values=dict(zip(spec.column_names, row[4::2], strict=True)),
            sums={name: Decimal(total or 0) for name, total in zip(spec.column_names, row[5::2], strict=True)},
        )
        for row in rows
    }


def differences(postgres: FileChecksums, bigquery: FileChecksums, spec: Dataset) -> list[str]:
    """What differs, a line each, by day; empty when both warehouses hold the same rows."""
    found = []
    for day in sorted({*postgres, *bigquery}, key=lambda day: (day is None, day or datetime.date.min)):
        ours, theirs = postgres.get(day, _nothing(spec)), bigquery.get(day, _nothing(spec))
        found += [f"{day or 'without a time'}: {line}" for line in _of_day(ours, theirs)]
    return found


def _of_day(ours: DayChecksums, theirs: DayChecksums) -> list[str]:
    if ours.rows != theirs.rows:
        return [f"{ours.rows:,} rows in PostgreSQL, {theirs.rows:,} in BigQuery"]
    if ours.ids != theirs.ids:
        return ["the same number of rows, but not the same rows"]
    lines = []
    for name in ours.values:
        if ours.values[name] != theirs.values[name]:
            lines.append(f"{name} has {ours.values[name]:,} values in PostgreSQL, {theirs.values[name]:,} in BigQuery")
        elif ours.sums[name] != theirs.sums[name]:
            lines.append(f"{name} sums to {ours.sums[name]:,f} in PostgreSQL, {theirs.sums[name]:,f} in BigQuery")
    return lines


def _nothing(spec: Dataset) -> DayChecksums:
    none = dict.fromkeys(spec.column_names, 0)
    return DayChecksums(0, (Decimal(), Decimal()), none, dict.fromkeys(spec.column_names, Decimal()))
