"""Files that load jobs read: gs:// by HTTP from the storage emulator; CSV, and what BigQuery finds wrong with it."""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.error
import urllib.parse
import urllib.request

import pandas as pd

from .errors import ApiError, not_found
from .values import q


def gcs(path, host):
    try:
        with urllib.request.urlopen(f"{host.rstrip('/')}/storage/v1{path}", timeout=300) as r:
            return r.read()
    except urllib.error.HTTPError as e:
        if e.code == 404:
            return None
        raise


def read_uri(uri, host, location):
    m = re.fullmatch(r"gs://([^/]+)/(.+)", uri)
    if not m:
        raise ApiError(400, "invalid", f"Invalid source URI: {uri}")
    bucket, name = m.groups()
    meta = gcs(f"/b/{bucket}", host)
    if meta is None:
        raise not_found("bucket", bucket)
    where = json.loads(meta).get("location", "US").upper()
    if (
        location.upper() != "US"
        and where != location.upper()
        and not (location.upper() == "EU" and where.startswith("EUROPE-"))
    ):  # US reads from anywhere
        raise ApiError(
            400, "invalid", f"Cannot read and write in different locations: source: {where}, destination: {location}"
        )
    data = gcs(f"/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media", host)
    if data is None:
        raise ApiError(404, "notFound", f"Not found: URI {uri}")
    return uri, data


CONVERT = {
    "INTEGER": r"CASE WHEN regexp_full_match({c}, '\s*[+-]?\d+\s*') THEN TRY_CAST({c} AS BIGINT) END",
    "FLOAT": "TRY_CAST({c} AS DOUBLE)",
    "NUMERIC": "TRY_CAST({c} AS DECIMAL(38,9))",
    "DATE": "TRY_CAST({c} AS DATE)",
    "DATETIME": "TRY_CAST({c} AS TIMESTAMP)",
    "TIME": "TRY_CAST({c} AS TIME)",
    "TIMESTAMP": r"CASE WHEN regexp_matches({c}, '^\d{{4}}-\d\d?-\d\d?') THEN TRY_CAST({c} AS TIMESTAMPTZ) END",
    "STRING": "{c}",
    "BYTES": "TRY(from_base64({c}))",
    "BOOLEAN": "CASE WHEN lower({c}) IN ('true','t','yes','y','1') THEN true"
    " WHEN lower({c}) IN ('false','f','no','n','0') THEN false END",
}


def csv_into(con, target, sources, fields, o):
    """Read CSV as BigQuery does: wrong column counts and unreadable values are errors, and one is too many."""
    names = [f["name"] for f in fields]
    rows, errors = [], []
    for uri, data in sources:
        for line, row in csv_rows(uri, data.decode("utf-8-sig"), o):
            if len(row) == len(names):
                rows.append([v or None for v in row] + [line, uri])
            else:
                errors.append(
                    f"Found {len(row)} column(s) while expected {len(names)}. line_number: {line} File: {uri}"
                )
    con.register("_csv", pd.DataFrame(rows, columns=[*names, "_line", "_uri"], dtype=object))
    try:
        values = [CONVERT[f["type"]].format(c=f"CAST({q(f['name'])} AS VARCHAR)") for f in fields]
        bad = [
            f"{value} IS NULL" + ("" if f["mode"] == "REQUIRED" else f" AND {q(f['name'])} IS NOT NULL")
            for f, value in zip(fields, values, strict=True)
        ]
        has_bad = con.execute(f"SELECT {', '.join(f'bool_or({each})' for each in bad)} FROM _csv").fetchall()[0]
        for pos in (pos for pos, has in enumerate(has_bad) if has):
            f = fields[pos]
            found = con.execute(f"SELECT {q(f['name'])}, _line, _uri FROM _csv WHERE {bad[pos]} LIMIT 5").fetchall()
            parse = f"as {f['type']} for field {f['name']} (position {pos})"
            errors += [f"Could not parse '{v}' {parse} line_number: {line} File: {uri}" for v, line, uri in found]
        if errors:
            raise unreadable(*errors[:5])
        con.execute(f"INSERT INTO {target} SELECT {', '.join(values)} FROM _csv")
    finally:
        con.unregister("_csv")


def csv_rows(uri, text, o):
    """The rows after the leading ones, each with its number from 1."""
    if not o.get("allowQuotedNewlines") and any(line.count('"') % 2 for line in text.split("\n")):
        raise unreadable(f'Missing close quote character ("). File: {uri}')
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=o.get("fieldDelimiter") or ",")
    for i, row in enumerate(reader):
        if row and i >= int(o.get("skipLeadingRows") or 0):
            yield i + 1, row


def unreadable(*messages):
    errors = [f"Error while reading data, error message: {message}" for message in messages]
    return ApiError(400, "invalid", errors[0], [{"reason": "invalid", "message": error} for error in errors])
