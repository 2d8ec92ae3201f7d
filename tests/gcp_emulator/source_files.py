"""Reads the files of load jobs from the storage emulator, and parses CSV with the same errors as BigQuery."""

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
from .values import quoted


def get_from_storage(path, storage_url):
    """The response of the storage emulator, or None if there is no such bucket or object."""
    try:
        with urllib.request.urlopen(f"{storage_url.rstrip('/')}/storage/v1{path}", timeout=300) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def read_uri(uri, storage_url, location):
    """The URI and the content of a gs:// object, which must be in a location that BigQuery can load from."""
    match = re.fullmatch(r"gs://([^/]+)/(.+)", uri)
    if not match:
        raise ApiError(400, "invalid", f"Invalid source URI: {uri}")
    bucket, name = match.groups()
    metadata = get_from_storage(f"/b/{bucket}", storage_url)
    if metadata is None:
        raise not_found("bucket", bucket)
    bucket_location = json.loads(metadata).get("location", "US").upper()
    # A dataset in the US can be loaded from a bucket in any location.
    if (
        location.upper() != "US"
        and bucket_location != location.upper()
        and not (location.upper() == "EU" and bucket_location.startswith("EUROPE-"))
    ):
        raise ApiError(
            400,
            "invalid",
            f"Cannot read and write in different locations: source: {bucket_location}, destination: {location}",
        )
    data = get_from_storage(f"/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media", storage_url)
    if data is None:
        raise ApiError(404, "notFound", f"Not found: URI {uri}")
    return uri, data


PARSERS = {
    "INTEGER": r"CASE WHEN regexp_full_match({c}, '\s*[+-]?\d+\s*') THEN TRY_CAST({c} AS BIGINT) END",
    "FLOAT": "TRY_CAST({c} AS DOUBLE)",
    # Google refuses more than nine decimal places in Avro files and streamed rows, and documents nothing for CSV files.
    "NUMERIC": r"CASE WHEN NOT regexp_matches({c}, '\.\d{{9}}\d*[1-9]') THEN TRY_CAST({c} AS DECIMAL(38,9)) END",
    "DATE": "TRY_CAST({c} AS DATE)",
    "DATETIME": "TRY_CAST({c} AS TIMESTAMP)",
    "TIME": "TRY_CAST({c} AS TIME)",
    "TIMESTAMP": r"CASE WHEN regexp_matches({c}, '^\d{{4}}-\d\d?-\d\d?') THEN TRY_CAST({c} AS TIMESTAMPTZ) END",
    "STRING": "{c}",
    "BYTES": "TRY(from_base64({c}))",
    "BOOLEAN": "CASE WHEN lower({c}) IN ('true','t','yes','y','1') THEN true"
    " WHEN lower({c}) IN ('false','f','no','n','0') THEN false END",
}

# An empty text is written as "", and NULL as nothing; Python's csv does not tell them apart.
_FIELD, _EMPTY_TEXT = re.compile(r'(?:^|(?<=,))(?:"(?:[^"]|"")*"|[^,"\r\n]*)', re.MULTILINE), "\x01"


def csv_into(connection, target, sources, fields, options):
    """Inserts CSV files into a table, as BigQuery does: a single row that cannot be read fails the load."""
    names = [field["name"] for field in fields]
    rows, errors = [], []
    for uri, data in sources:
        for line, row in csv_rows(uri, data.decode("utf-8-sig"), options):
            if len(row) == len(names):
                rows.append(["" if value == _EMPTY_TEXT else value or None for value in row] + [line, uri])
            else:
                errors.append(
                    f"Found {len(row)} column(s) while expected {len(names)}. line_number: {line} File: {uri}"
                )
    connection.register("_csv", pd.DataFrame(rows, columns=[*names, "_line", "_uri"], dtype=object))
    try:
        parsed_columns = [
            PARSERS[field["type"]].format(c=f"CAST({quoted(field['name'])} AS VARCHAR)") for field in fields
        ]
        bad_conditions = [
            f"{parsed} IS NULL" + ("" if field["mode"] == "REQUIRED" else f" AND {quoted(field['name'])} IS NOT NULL")
            for field, parsed in zip(fields, parsed_columns, strict=True)
        ]
        has_bad = connection.execute(
            f"SELECT {', '.join(f'bool_or({condition})' for condition in bad_conditions)} FROM _csv"
        ).fetchall()[0]
        for position in (position for position, is_bad in enumerate(has_bad) if is_bad):
            field = fields[position]
            found = connection.execute(
                f"SELECT {quoted(field['name'])}, _line, _uri FROM _csv WHERE {bad_conditions[position]} LIMIT 5"
            ).fetchall()
            target_type = f"as {field['type']} for field {field['name']} (position {position})"
            errors += [
                f"Could not parse '{value}' {target_type} line_number: {line} File: {uri}" for value, line, uri in found
            ]
        if errors:
            raise unreadable(*errors[:5])
        connection.execute(f"INSERT INTO {target} SELECT {', '.join(parsed_columns)} FROM _csv")
    finally:
        connection.unregister("_csv")


def csv_rows(uri, text, options):
    """The rows after the leading ones, each with its line number, which begins at 1."""
    if not options.get("allowQuotedNewlines") and any(line.count('"') % 2 for line in text.split("\n")):
        raise unreadable(f'Missing close quote character ("). File: {uri}')
    text = (
        _FIELD.sub(lambda field: f'"{_EMPTY_TEXT}"' if field[0] == '""' else field[0], text) if '""' in text else text
    )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=options.get("fieldDelimiter") or ",")
    for index, row in enumerate(reader):
        if row and index >= int(options.get("skipLeadingRows") or 0):
            yield index + 1, row


def unreadable(*messages):
    """The error of a load job whose files cannot be read."""
    errors = [f"Error while reading data, error message: {message}" for message in messages]
    return ApiError(400, "invalid", errors[0], [{"reason": "invalid", "message": error} for error in errors])
