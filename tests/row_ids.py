"""The row id by two ways that are not the pipeline's: a plain SQL formula, and Python."""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Iterable
from decimal import Decimal

from conftest import execute

from pipeline.datasets import DatasetSpec
from pipeline.warehouses.postgres import PostgresDatabase


def rows_with_another_id(database: PostgresDatabase, spec: DatasetSpec) -> int:
    """How many of a table's rows have an id that is not md5 of their key's texts, unseparated, NULL as ''."""
    texts = " || ".join(f"coalesce({name}::text, '')" for name in spec.row_key)
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
            return "t" if value else "f"
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
    digits = "".join(map(str, Decimal(repr(value)).as_tuple().digits)).lstrip("0")  # the fewest that give it back
    exponent = Decimal(repr(value)).adjusted()
    digits = digits.rstrip("0") or "0"
    if value and not -4 <= exponent < 15:
        return f"{sign}{digits[0]}{'.' + digits[1:] if digits[1:] else ''}e{exponent:+03}"
    return sign + f"{Decimal(repr(abs(value))):f}".removesuffix(".0")
