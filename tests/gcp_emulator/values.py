"""Values and types: how BigQuery's are kept in DuckDB, and how its REST API writes them."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
import time

from . import analyzer
from .errors import unsupported

DUCK = {
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
CREATE MACRO bq_double(x) AS CASE WHEN x = 0 THEN '0'
  WHEN TRY_CAST(format('{:.15g}', x) AS DOUBLE) = x THEN format('{:.15g}', x) ELSE format('{:.17g}', x) END;
CREATE MACRO bq_text(t, s) AS CASE
  WHEN t LIKE 'TIMESTAMP%' OR t = 'TIME' THEN bq_frac(s, regexp_extract(s, '\.(\d+)', 1))
  WHEN t LIKE 'DECIMAL%' THEN regexp_replace(regexp_replace(s, '(\.\d*?)0+$', '\1'), '\.$', '')
  WHEN t IN ('DOUBLE', 'FLOAT') THEN bq_double(TRY_CAST(s AS DOUBLE))
  WHEN t = 'BLOB' THEN error('emulator: CAST(BYTES AS STRING)') ELSE s END;
CREATE MACRO bq_str(x) AS bq_text(typeof(x), CAST(x AS VARCHAR));
CREATE MACRO bq_same(x) AS x;
CREATE MACRO bq_isint(x) AS typeof(x) <> 'VARCHAR'
  OR regexp_full_match(CAST(x AS VARCHAR), '\s*[+-]?(\d+|0[xX][0-9a-fA-F]+)\s*');
CREATE MACRO bq_int(x) AS CASE WHEN x IS NULL THEN NULL WHEN bq_isint(x) THEN CAST(x AS BIGINT)
  ELSE error('Bad int64 value: ' || CAST(x AS VARCHAR)) END;
CREATE MACRO bq_tryint(x) AS CASE WHEN bq_isint(x) THEN TRY_CAST(x AS BIGINT) END;
CREATE MACRO bq_div(a, b) AS CASE WHEN b = 0 THEN error('division by zero') ELSE a / b END;
"""


def now():
    """The time in milliseconds, as BigQuery's resources have it."""
    return int(time.time() * 1000)


def q(*parts):
    return ".".join('"' + p.replace('"', '""') + '"' for p in parts)


def duck_type(f):
    t = analyzer.ALIASES.get(f["type"].upper(), f["type"].upper())
    if t not in DUCK or f.get("mode") == "REPEATED":
        raise unsupported(f"columns of type {f.get('mode', '')} {t}")
    return DUCK[t]


def normal(fields):
    return [
        {**f, "type": analyzer.ALIASES.get(f["type"].upper(), f["type"].upper()), "mode": f.get("mode") or "NULLABLE"}
        for f in fields
    ]


def encode(v, f, int64ts=True):
    """A value as the REST API writes it."""
    if v is None:
        return None
    t = f["type"]
    if t == "BYTES":
        return base64.b64encode(v).decode()
    if t == "TIMESTAMP":
        us = (v.astimezone(dt.UTC) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
        return str(us) if int64ts else repr(us / 1e6)
    if t == "BOOLEAN":
        return "true" if v else "false"
    if t == "NUMERIC":
        n = (
            v
            if isinstance(v, decimal.Decimal)
            else decimal.Decimal(repr(v))
            if isinstance(v, float)
            else decimal.Decimal(v)
        )
        with decimal.localcontext(prec=40):  # NUMERIC has 29 digits before the point and 9 behind it
            s = f"{round(n, 9):f}"
        return s.rstrip("0").rstrip(".") if "." in s else s
    if t == "FLOAT":
        return repr(float(v)) if math.isfinite(v) else str(v)
    return v.isoformat() if hasattr(v, "isoformat") else str(v)
