"""The malformed rows of a file: finds them after an error, and collects them for the quarantine table."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Sequence
from typing import TextIO, cast

import psycopg2
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Release
from pipeline.releases.csv_records import InvalidRecord, Record
from pipeline.warehouses.postgres.connection import statement
from pipeline.warehouses.postgres.tables import ReleaseTables

# The errors that PostgreSQL raises for a row that it rejects; other errors are not caused by the row.
ROW_ERRORS = (psycopg2.DataError, psycopg2.IntegrityError)

# COPY's context is `COPY table, line 3, column fare_amount: "abc"`, in the server's language.
_COPY_PLACE = re.compile(r"\S+ .*?, \D*(?P<line>\d+)(?:, \S+ (?P<column>\w+))?(?:: (?P<value>.*))?", re.DOTALL)
_MAX_IN_MEMORY = 1 << 20


class BadRows:
    """The malformed rows of a release, up to the allowed number; written to a file beyond 1 MiB, until closed."""

    def __init__(self, release: Release, allowed: int):
        self.allowed, self.count = allowed, 0
        self._lines = tempfile.SpooledTemporaryFile(_MAX_IN_MEMORY, "w+", encoding="utf-8", newline="")  # noqa: SIM115
        self.close = self._lines.close
        self._writer = csv.writer(self._lines, quoting=csv.QUOTE_ALL)
        self._row_start = (release.table, release.filename, "malformed")

    def add(self, row: Record, invalid: InvalidRecord) -> bool:
        """Adds the row unless the allowed number is reached; returns whether it was added."""
        if self.count >= self.allowed:
            return False
        self._writer.writerow((*self._row_start, invalid.detail, row.line_number, row.text))
        self.count += 1
        return True

    def quarantine(self, cursor: Cursor, tables: ReleaseTables) -> None:
        """Copies the rows, with line numbers and reasons, into the quarantine table."""
        if self.count:
            self._lines.seek(0)
            query = statement("quarantine_malformed_rows", **tables.parts)
            cursor.copy_expert(query, cast(TextIO, self._lines))


def find_bad_row(rows: Sequence[Record], error: psycopg2.Error) -> tuple[int, InvalidRecord]:
    """Returns the index of the row that PostgreSQL rejected, and why; raises the error if it is not about a row."""
    place = _COPY_PLACE.match(error.diag.context or "")
    if place is None:
        raise error
    value = place["value"] or error.diag.message_detail or ""
    invalid = InvalidRecord(place["column"] or "", error.diag.message_primary or str(error), value)
    return _row_at_line(rows, int(place["line"])), invalid


def _row_at_line(rows: Sequence[Record], line: int) -> int:
    for index, row in enumerate(rows):
        line -= row.data.count(b"\n")
        if line <= 0:
            return index
    return len(rows) - 1
