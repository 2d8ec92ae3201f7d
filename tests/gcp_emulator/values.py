"""BigQuery's values and types: their representation in DuckDB and in the REST API."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
import time

from . import analyzer
from .errors import unsupported

DUCKDB_TYPES = {
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMPTZ",
    "DATE": "DATE",
    "TIME": "TIME",
    "DATETIME": "TIMESTAMP",
    "NUMERIC": "DECIMAL(38,9)",
    "JSON": "JSON",
}
MACROS = r"""
CREATE MACRO bq_frac(s, f) AS CASE WHEN length(f) IN (0, 3, 6) THEN s
  ELSE replace(s, '.' || f, '.' || rpad(f, CASE WHEN length(f) < 3 THEN 3 ELSE 6 END, '0')) END;
CREATE MACRO bq_time(s) AS bq_frac(s, regexp_extract(s, '\.(\d+)', 1));
CREATE MACRO bq_str(x VARCHAR) AS x, (x BIGINT) AS CAST(x AS VARCHAR), (x HUGEINT) AS CAST(x AS VARCHAR),
  (x BOOLEAN) AS CAST(x AS VARCHAR), (x DATE) AS CAST(x AS VARCHAR), (x TIME) AS bq_time(CAST(x AS VARCHAR)),
  (x TIMESTAMP) AS bq_time(CAST(x AS VARCHAR)), (x TIMESTAMPTZ) AS bq_time(CAST(x AS VARCHAR)),
  (x DECIMAL(38,9)) AS regexp_replace(regexp_replace(CAST(x AS VARCHAR), '(\.\d*?)0+$', '\1'), '\.$', ''),
  (x DOUBLE) AS CASE WHEN x = 0 THEN '0'
    WHEN TRY_CAST(format('{:.15g}', x) AS DOUBLE) = x THEN format('{:.15g}', x) ELSE format('{:.17g}', x) END,
  (x BLOB) AS error('emulator: CAST(BYTES AS STRING)');
CREATE MACRO bq_same(x) AS x;
CREATE MACRO bq_isint(x) AS typeof(x) <> 'VARCHAR'
  OR regexp_full_match(CAST(x AS VARCHAR), '\s*[+-]?(\d+|0[xX][0-9a-fA-F]+)\s*');
CREATE MACRO bq_int(x) AS CASE WHEN x IS NULL THEN NULL WHEN bq_isint(x) THEN CAST(x AS BIGINT)
  ELSE error('Bad int64 value: ' || CAST(x AS VARCHAR)) END;
CREATE MACRO bq_tryint(x) AS CASE WHEN bq_isint(x) THEN TRY_CAST(x AS BIGINT) END;
CREATE MACRO bq_div(a, b) AS CASE WHEN b = 0 THEN error('division by zero') ELSE a / b END;
"""


def now_ms():
    """The current time in milliseconds, as in BigQuery's resources."""
    return int(time.time() * 1000)


def quoted(*parts):
    """A quoted identifier of DuckDB with these parts."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def duckdb_type(field):
    """The DuckDB type of a field in a table's schema."""
    kind = analyzer.ALIASES.get(field["type"].upper(), field["type"].upper())
    if kind not in DUCKDB_TYPES or field.get("mode") == "REPEATED":
        raise unsupported(f"columns of type {field.get('mode', '')} {kind}")
    return DUCKDB_TYPES[kind]


def normalized(fields):
    """The fields of a schema, with BigQuery's own names of types and with a mode."""
    return [
        {
            **field,
            "type": analyzer.ALIASES.get(field["type"].upper(), field["type"].upper()),
            "mode": field.get("mode") or "NULLABLE",
        }
        for field in fields
    ]


def encode(value, field, int64_timestamps=True):
    """A value as the REST API returns it."""
    if value is None:
        return None
    kind = field["type"]
    if kind == "BYTES":
        return base64.b64encode(value).decode()
    if kind == "TIMESTAMP":
        since_1970 = value.astimezone(dt.UTC) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        microseconds = since_1970 // dt.timedelta(microseconds=1)
        return str(microseconds) if int64_timestamps else repr(microseconds / 1e6)
    if kind == "BOOLEAN":
        return "true" if value else "false"
    if kind == "NUMERIC":
        number = (
            value
            if isinstance(value, decimal.Decimal)
            else decimal.Decimal(repr(value))
            if isinstance(value, float)
            else decimal.Decimal(value)
        )
        with decimal.localcontext(prec=40):  # NUMERIC has 29 digits before the decimal point and 9 after it
            text = f"{round(number, 9):f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if kind == "FLOAT":
        return repr(float(value)) if math.isfinite(value) else str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
