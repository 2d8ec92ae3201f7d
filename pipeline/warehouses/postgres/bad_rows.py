"""Malformed rows: which one PostgreSQL complained of, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
import psycopg2.errors

from pipeline.releases import Record

# What PostgreSQL raises for a row that it does not take; anything else is no fault of the row.
RowError = (psycopg2.DataError, psycopg2.IntegrityError)

# COPY's context reads «COPY table, line 3, column fare_amount: "abc"», the words in the server's language.
_COPY_PLACE = re.compile(r"\S+ .*?, \D*(?P<line>\d+)(?:, \S+ (?P<column>\w+))?(?:: (?P<value>.*))?", re.DOTALL)
_LONGEST_VALUE = 200
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
    return at, _malformed(rows[at], column, error.diag.message_primary or str(error), value)


def end_marker(row: Record) -> MalformedRow | None:
    r"""Says that the row is `\.` alone, if it is: before version 18, PostgreSQL silently stops reading there."""
    if row.data.rstrip(b"\r\n") != _END_OF_COPY:
        return None
    return _malformed(row, "", "missing data for column: the line holds only", row.text)


def _malformed(row: Record, column: str, problem: str, value: str) -> MalformedRow:
    where = f"column {column}: " if column else ""
    shown = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…"
    detail = f"{where}{problem}" + (f": {shown}" if shown and shown not in problem else "")
    return MalformedRow(row.line_number, row.text, detail.replace("\r", "\\r").replace("\n", "\\n"))


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
