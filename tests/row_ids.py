"""The row id by two ways that are not the pipeline's: a plain SQL formula, and Python."""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from conftest import execute

from pipeline.datasets import Dataset
from pipeline.warehouses.postgres.connection import PostgresDatabase


def rows_with_another_id(database: PostgresDatabase, spec: Dataset) -> int:
    """How many of a table's rows have an id that is not md5 of their key's texts, unseparated, NULL as ''.

    `key_blanks` counts as NULL; rows that share their key with another one, and are not the last of them, have others.
    """
    values = {name: f"CASE WHEN {known} IS NULL THEN NULL ELSE {name} END" for name, known in spec.key_blanks.items()}
    texts = " || ".join(f"coalesce(({values.get(name, name)})::text, '')" for name in spec.row_key)
    return int(execute(database, f"SELECT count(*) FROM {spec.table} WHERE unique_row_id <> md5({texts})")[0][0])


def row_id(values: Iterable[object]) -> str:
    """The id of a row whose key has these values."""
    return hashlib.md5("".join(map(text_of, values)).encode()).hexdigest()


def text_of(value: object) -> str:
    """A value as PostgreSQL writes it (datatype output with DateStyle ISO); NULL, which is None, as nothing."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _text_of_double(value)
        case Decimal():
            return f"{value if value else abs(value):f}"  # numeric knows no negative zero
        case datetime.datetime():
            text = value.replace(microsecond=0).isoformat(" ")
            return text + f".{value.microsecond:06}".rstrip("0").rstrip(".")
        case _:
            return str(value)


def _text_of_double(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign = "-" if math.copysign(1, value) < 0 else ""
    if not value:
        return sign + "0"
    digits, _, exponent = _shortest(abs(value)).partition("e")
    if -4 <= int(exponent) < 15:
        return sign + f"{Decimal(f'{digits}e{exponent}'):f}"
    return f"{sign}{digits}e{int(exponent):+03}"


def _shortest(value: float) -> str:
    """The fewest digits that give a double back.

    Unlike Python, PostgreSQL does not take digits that lie right in the middle between two doubles, as whether they
    give it back depends on how the reader rounds (src/common/d2s.c, acceptBounds).
    """
    below, above = Fraction(math.nextafter(value, 0)), math.nextafter(value, math.inf)
    exact = Fraction(value)
    half_up = (exact - below if math.isinf(above) else Fraction(above) - exact) / 2
    candidates = [f"{Decimal(repr(value)).normalize():e}", *(f"{value:.{places}e}" for places in range(17))]
    return next(text for text in candidates if (below - exact) / 2 < Fraction(text) - exact < half_up)
