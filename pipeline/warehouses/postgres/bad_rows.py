"""Malformed rows: which one PostgreSQL complained of, and what is wrong with it."""

from __future__ import annotations

import contextlib
import csv
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg2
import psycopg2.errors

from pipeline.datasets import Release
from pipeline.releases import Record
from pipeline.releases.csv_values import Problem

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
