"""The row id, computed independently of the pipeline: by a plain SQL formula, and in Python."""

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


def count_rows_with_other_ids(database: PostgresDatabase, dataset: Dataset) -> int:
    """Counts the rows whose id is not the md5 of their key's texts, joined without separators, with NULL as ''.

    Values that count as blank by `key_blanks` are NULL here. Of different rows with the same key, all but the last
    are counted, because their ids include a number.
    """
    values = {
        name: f"CASE WHEN {known} IS NULL THEN NULL ELSE {name} END" for name, known in dataset.key_blanks.items()
    }
    texts = " || ".join(f"coalesce(({values.get(name, name)})::text, '')" for name in dataset.row_key)
    return int(execute(database, f"SELECT count(*) FROM {dataset.table} WHERE unique_row_id <> md5({texts})")[0][0])


def row_id(values: Iterable[object]) -> str:
    """Returns the id of a row whose key has these values."""
    return hashlib.md5("".join(map(text_of, values)).encode()).hexdigest()


def text_of(value: object) -> str:
    """Returns a value's text as PostgreSQL writes it with DateStyle ISO; the text of None (NULL) is empty."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _text_of_double(value)
        case Decimal():
            return f"{value if value else abs(value):f}"  # numeric has no negative zero
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
    """Returns the shortest digits from which the same double is read back.

    Unlike Python, PostgreSQL does not use digits exactly halfway between two doubles, because which of the two is read
    back then depends on how the reader rounds (src/common/d2s.c, acceptBounds).
    """
    below, above = Fraction(math.nextafter(value, 0)), math.nextafter(value, math.inf)
    exact = Fraction(value)
    half_up = (exact - below if math.isinf(above) else Fraction(above) - exact) / 2
    candidates = [f"{Decimal(repr(value)).normalize():e}", *(f"{value:.{places}e}" for places in range(17))]
    return next(text for text in candidates if (below - exact) / 2 < Fraction(text) - exact < half_up)
