"""Converts Arrow values without loss to the types that specs declare, and to PostgreSQL's text format."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.releases import TYPES as DECLARED

# The Arrow type of each PostgreSQL type that a spec can name.
TYPES = {
    "text": pa.string(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
# As in CSV files; an empty text is not NULL in Parquet and stays as it is.
_WHOLE_TEXT = r"\A(-?[0-9]{1,18}(\.0*)?)?\z"
# Between these, Arrow formats a double like PostgreSQL; outside, only one of the two uses an exponent.
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-4, 1e10
# Microseconds since 1970; with Arrow scalars, Arrow would import pandas if that is installed.
_FIRST_TIME, _LAST_TIME = (
    (time - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    for time in (datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999))
)


class BadValue(Exception):
    """Raised if a value cannot be represented in the declared type; the message says why."""


class WrongType(Exception):
    """Raised if no value of the array's type can be converted to the declared type."""


def convert(array: pa.Array, type_: pa.DataType, whole: bool) -> pa.Array:
    """Converts an array to one of `TYPES` without changing values; with `whole`, numbers must be whole.

    :raises BadValue: or pa.ArrowException, if a value cannot be represented in the type.
    :raises WrongType: if the array's type cannot be converted at all.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), type_)
    if type_ == pa.string():
        return _to_text(array, whole)
    # Times are New York local time, so a time zone in the file would be ambiguous.
    if getattr(array.type, "tz", None) or not any(is_of_kind(array.type) for is_of_kind in _CONVERTIBLE[type_]):
        raise WrongType(str(array.type))
    if type_ == pa.float64() and pa.types.is_decimal(array.type):
        # Arrow's own cast multiplies by a power of ten, so that 14.20 becomes 14.200000000000001.
        array = array.cast(pa.string())
    values = array.cast(type_)
    if type_ == pa.float64():
        _check_finite(values)
    if pa.types.is_timestamp(type_):
        _check_years(values)
    return values


def kind_of_type(type_: pa.DataType) -> str | None:
    """Returns the key in `releases.TYPES` of the type to declare, or None if the type is not converted to any."""
    kind = next((kind for kind, is_of_kind in _KINDS if is_of_kind(type_)), "text")
    try:
        convert(pa.nulls(0, type_), TYPES[DECLARED[kind][0]], whole=False)
    except (WrongType, pa.ArrowException):
        return None
    return kind


def postgres_texts(array: pa.Array) -> pa.Array:
    """Returns a converted array's values in PostgreSQL's text format; NULL stays NULL."""
    if pa.types.is_floating(array.type):
        return _number_texts(array)
    if pa.types.is_timestamp(array.type):
        return _time_texts(array)
    if pa.types.is_boolean(array.type):
        return pc.if_else(array, "t", "f")
    return array.cast(pa.string())


def csv_lines(batch: pa.RecordBatch) -> bytes:
    """Returns a converted batch as CSV in PostgreSQL's text format, with NULL as an empty field and LF line endings."""
    fields = [
        _quoted(postgres_texts(array)) if array.type == pa.string() else postgres_texts(array)
        for array in batch.columns
    ]
    lines = pc.binary_join_element_wise(*fields, ",", null_handling="replace", null_replacement="")
    lists = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
    return bytes(pc.binary_join(lists, "\n")[0].as_buffer()) + b"\n"


def number_text(value: float) -> str:
    """Formats a double like PostgreSQL: the shortest digits that round-trip, with an exponent from 1e15.

    For whole numbers above 2^53, which do not occur as amounts, PostgreSQL may write one digit more.
    """
    if math.isnan(value) or math.isinf(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)]
    text = repr(value).removesuffix(".0")
    if "e" in text or abs(value) < 1e15:
        return text
    digits = text.lstrip("-").rstrip("0")
    fraction = "." + digits[1:] if digits[1:] else ""
    return f"{'-' if value < 0 else ''}{digits[0]}{fraction}e+{len(text.lstrip('-')) - 1}"


def _quoted(values: pa.Array) -> pa.Array:
    special = pc.or_(pc.equal(values, ""), pc.match_substring_regex(values, r'[",\r\n]'))
    if not pc.any(special).as_py():
        return values
    doubled = pc.replace_substring(values, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), values)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _to_text(array: pa.Array, whole: bool) -> pa.Array:
    type_ = array.type
    if _is_text(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        values = array.cast(pa.string())
        if _has_nul(values):
            raise BadValue("a text with a NUL character")
        return _whole_texts(values) if whole else values
    if pa.types.is_integer(type_):
        return array.cast(pa.string())
    if pa.types.is_floating(type_):
        if whole or _all_whole(array):
            return array.cast(pa.int64()).cast(pa.string())
        return _number_texts(array.cast(pa.float64()))
    if pa.types.is_decimal(type_) and whole:
        return array.cast(pa.int64()).cast(pa.string())
    if pa.types.is_boolean(type_):
        return array.cast(pa.string())
    raise WrongType(str(type_))


def _has_nul(values: pa.Array) -> bool:
    """Returns whether a text contains NUL, which PostgreSQL rejects; a fast search in the array's bytes."""
    _, offsets, data = values.buffers()
    if data is None or not len(values):
        return False
    bounds = memoryview(offsets).cast("i")
    first, last = bounds[values.offset], bounds[values.offset + len(values)]
    return bytes(memoryview(data)[first:last]).find(0) >= 0


def _whole_texts(values: pa.Array) -> pa.Array:
    if pc.all(pc.match_substring_regex(values, _WHOLE_TEXT)).as_py() is False:
        raise BadValue("not a whole number")
    if not pc.any(pc.match_substring(values, ".")).as_py():
        return values
    return pc.replace_substring_regex(values, r"\.0*$", "")


def _all_whole(array: pa.Array) -> bool:
    small = pc.less(pc.abs(array), 2**53)
    return pc.all(pc.and_(small, pc.equal(pc.floor(array), array))).as_py() is not False


def _check_finite(values: pa.Array) -> None:
    total = pc.sum(values).as_py()  # not finite if any value is not
    if total is not None and not math.isfinite(total) and pc.all(pc.is_finite(values)).as_py() is False:
        raise BadValue("not a finite number")


def _check_years(values: pa.Array) -> None:
    first, last = pc.min_max(values.cast(pa.int64())).as_py().values()
    if first is not None and (first < _FIRST_TIME or last > _LAST_TIME):
        raise BadValue("a time outside the years 1 to 9999")


def _number_texts(values: pa.Array) -> pa.Array:
    written = values.cast(pa.string())
    size = pc.abs(values)
    plain = pc.or_(pc.equal(size, 0), pc.and_(pc.greater_equal(size, _SMALLEST_PLAIN), pc.less(size, _LARGEST_PLAIN)))
    if pc.all(plain).as_py() is not False:
        return written
    others = pc.fill_null(pc.invert(plain), False)
    replacements = pa.array(map(number_text, values.filter(others).to_pylist()), pa.string())
    return pc.replace_with_mask(written, others, replacements)


def _time_texts(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.timestamp("s")).cast(pa.string())
    except pa.ArrowInvalid:  # fractions of seconds; PostgreSQL omits trailing zeros
        return pc.replace_substring_regex(values.cast(pa.string()), r"\.?0*$", "")


_IsOfKind = Callable[[pa.DataType], bool]
_KINDS: tuple[tuple[str, _IsOfKind], ...] = (
    ("integer", pa.types.is_integer),
    ("number", pa.types.is_floating),
    ("number", pa.types.is_decimal),
    ("boolean", pa.types.is_boolean),
    ("time", pa.types.is_timestamp),
    ("date", pa.types.is_date),
)
_NUMBERS: tuple[_IsOfKind, ...] = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, _is_text)
_TIMES: tuple[_IsOfKind, ...] = (pa.types.is_timestamp, pa.types.is_date, _is_text)
# The kinds of types that are converted to each type except text.
_CONVERTIBLE: dict[pa.DataType, tuple[_IsOfKind, ...]] = {
    pa.int32(): _NUMBERS,
    pa.int64(): _NUMBERS,
    pa.float64(): _NUMBERS,
    pa.bool_(): (pa.types.is_boolean, _is_text),
    pa.date32(): _TIMES,
    pa.timestamp("us"): _TIMES,
}
