"""Rows that are left out of a release's table: the malformed ones of a file, and the quarantine, which keeps them."""

from __future__ import annotations

import contextlib
import csv
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO, cast

import psycopg2
import psycopg2.errors
from psycopg2.extensions import cursor as Cursor

from pipeline.datasets import Release
from pipeline.releases import Record
from pipeline.releases.csv_values import Problem
from pipeline.warehouses.postgres.connection import statement
from pipeline.warehouses.postgres.tables import ReleaseTables

# What PostgreSQL raises for a row that it does not take; anything else is no fault of the row.
RowError = (psycopg2.DataError, psycopg2.IntegrityError)

# COPY's context reads «COPY table, line 3, column fare_amount: "abc"», the words in the server's language.
_COPY_PLACE = re.compile(r"\S+ .*?, \D*(?P<line>\d+)(?:, \S+ (?P<column>\w+))?(?:: (?P<value>.*))?", re.DOTALL)
_KEPT_IN_MEMORY = 1 << 20
_END_OF_COPY = b"\\."


@dataclass(frozen=True)
class MalformedRow:
    """A row that PostgreSQL does not take: where it stands, what it says and what is wrong with it."""

    line_number: int
    line: str
    detail: str

    @property
    def is_open(self) -> bool:
        """Whether a quote in it is never closed, so that all rows after it are in it too."""
        return self.line.count('"') % 2 == 1


class BadRows:
    """The malformed rows of a release, as many as are allowed, kept in a file so that memory stays flat."""

    def __init__(self, release: Release, allowed: int):
        self.allowed, self.count = allowed, 0
        self.lines = tempfile.SpooledTemporaryFile(_KEPT_IN_MEMORY, "w+", encoding="utf-8", newline="")  # noqa: SIM115
        self._writer = csv.writer(self.lines, quoting=csv.QUOTE_ALL)
        self._begin = (release.table, release.filename, "malformed")

    def add(self, row: MalformedRow) -> bool:
        """Keeps the row, unless it is one more than allowed; says whether it does."""
        if self.count >= self.allowed:
            return False
        self._writer.writerow((*self._begin, row.detail, row.line_number, row.line))
        self.count += 1
        return True


@contextlib.contextmanager
def bad_rows_of(release: Release, allowed: int) -> Iterator[BadRows]:
    """Where the malformed rows of a release are kept while it is loaded."""
    kept = BadRows(release, allowed)
    with kept.lines:
        yield kept


def find_bad_row(rows: Sequence[Record], error: psycopg2.Error) -> tuple[int, MalformedRow]:
    """Which of the rows sent PostgreSQL complained of, and what is wrong with it; raises what is not about a row."""
    place = _COPY_PLACE.match(error.diag.context or "")
    if place is None:
        raise error
    if isinstance(error, psycopg2.errors.CharacterNotInRepertoire):
        # PostgreSQL checks the encoding a buffer at a time, so the line that it names may be another.
        at = next(at for at, row in enumerate(rows) if not _is_utf8_text(row.data))
        column, value = "", rows[at].text
    else:
        at = _index_of_line(rows, int(place["line"]))
        column, value = place["column"] or "", place["value"] or error.diag.message_detail or ""
    return at, malformed_row(rows[at], column, error.diag.message_primary or str(error), value)


def end_marker(row: Record) -> MalformedRow | None:
    r"""Says that the row is `\.` alone, if it is: before version 18, PostgreSQL silently stops reading there."""
    if row.data.rstrip(b"\r\n") != _END_OF_COPY:
        return None
    return malformed_row(row, "", "missing data for column: the line holds only", row.text)


def malformed_row(row: Record, column: str, problem: str, value: str) -> MalformedRow:
    """The row with what is wrong with it in one line."""
    return MalformedRow(row.line_number, row.text, Problem(column, problem, value).detail)


def _index_of_line(rows: Sequence[Record], line: int) -> int:
    for at, row in enumerate(rows):
        line -= row.data.count(b"\n")
        if line <= 0:
            return at
    return len(rows) - 1


def _is_utf8_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def clear_quarantine(cursor: Cursor, tables: ReleaseTables) -> None:
    """Removes what an earlier load of the release set aside."""
    values = {"target_table": tables.release.table, "filename": tables.release.filename}
    cursor.execute(statement("clear_quarantine", quarantine=tables.quarantine), values)


def quarantine_malformed(cursor: Cursor, tables: ReleaseTables, rows: BadRows) -> None:
    """Keeps the rows that are not what the spec says, with their line numbers and what was wrong."""
    if rows.count:
        rows.lines.seek(0)
        query = statement("quarantine_malformed_rows", quarantine=tables.quarantine)
        cursor.copy_expert(query, cast(TextIO, rows.lines))


def resolve_repeated_ids(cursor: Cursor, tables: ReleaseTables) -> int:
    """Gives rows that share the key ids of their own, and moves what is the same row again; returns how many of it."""
    query = statement(
        "resolve_repeated_ids",
        loading=tables.loading,
        quarantine=tables.quarantine,
        row_text=tables.row_text,
        key_text=tables.key_text,
    )
    cursor.execute(query, {"target_table": tables.release.table})
    return cursor.rowcount


def quarantine_rows_of_other_files(cursor: Cursor, tables: ReleaseTables, filename_of_id: Mapping[str, str]) -> int:
    """Moves the rows whose id is in the table from another file, which the mapping names; returns how many."""
    if not filename_of_id:
        return 0
    cursor.execute(
        statement("quarantine_rows_of_other_files", loading=tables.loading, quarantine=tables.quarantine),
        {
            "target_table": tables.release.table,
            "ids": list(filename_of_id),
            "filenames": list(filename_of_id.values()),
        },
    )
    return cursor.rowcount
