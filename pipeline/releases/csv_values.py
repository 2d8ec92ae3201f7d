"""What the fields of CSV records must look like, by column type: what the publisher writes, and PostgreSQL prints.

PostgreSQL reads more than that, and some of it as something else than is written: `now` as a time, `1_000` and `0x10`
as integers, `NaN` as a number, a time without its zone. Blocks in which every value has the plain shape are recognised
as a whole by RE2, at the speed of reading them; only others are looked at record by record.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import re2

from pipeline.datasets import Column, Dataset
from pipeline.releases.csv_records import Record

_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
# What most values look like; no more alternatives than are needed, as each makes the automaton larger and slower.
_PLAIN = {
    "text": r'[^,"\n\r\\\x00]*',
    "integer": r"-?\d{1,9}",
    "bigint": r"-?\d{1,18}",
    "double precision": r"-?\d*\.?\d+",
    "numeric": r"-?\d*\.?\d+",
    "boolean": r"true|false|[tf]",
    "date": _DATE,
    "timestamp": rf"{_DATE}[ T]{_TIME}",
}
# All that is taken. 38 digits and an exponent of two are more than any amount has, and sums of it do not overflow.
_NUMBER = r"-?(?:\d{1,38}\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?"
_EXACT = {
    **{name: re.compile(pattern, re.ASCII | re.IGNORECASE) for name, pattern in _PLAIN.items() if name != "text"},
    "integer": re.compile(r"-?\d{1,10}", re.ASCII),
    "bigint": re.compile(r"-?\d{1,19}", re.ASCII),
    "double precision": re.compile(_NUMBER, re.ASCII),
    "numeric": re.compile(_NUMBER, re.ASCII),
}
_LARGE_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"(-?\d{1,18})(?:\.0*)?", re.ASCII)
_END_OF_COPY = "\\."  # where PostgreSQL stops reading, silently, before version 18
_LIMITS = {"integer": 2**31, "bigint": 2**63}
_LONGEST_VALUE = 200
_LOOKED_AT = 10_000
_FIELD = re.compile(r'((?:[^",]|"[^"]*")*)(,|$)', re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a record, in PostgreSQL's words: the column, if it is about one, and the value."""

    column: str
    message: str
    value: str

    @property
    def detail(self) -> str:
        """All of it in one line, of a long value its beginning."""
        where = f"column {self.column}: " if self.column else ""
        shown = self.value if len(self.value) <= _LONGEST_VALUE else self.value[:_LONGEST_VALUE] + "…"
        detail = f"{where}{self.message}" + (f": {shown}" if shown and shown not in self.message else "")
        return detail.replace("\r", "\\r").replace("\n", "\\n")


class CsvValues:
    """Judges the records of a file that has these columns of the dataset, in this order."""

    def __init__(self, dataset: Dataset, names: Sequence[str]):
        declared = {column.name: column for column in dataset.columns}
        self._columns = columns = [declared[name] for name in names]
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1  # bytes; whether they are UTF-8 is for the database to say
        options.never_capture = True
        line = ",".join(f"(?:{_plain_shape(column)})" for column in columns)
        self._plain = re2.compile(f"(?:{line}\\r?\\n)*".encode(), options)

    def are_plain(self, data: bytes) -> bool:
        """Whether every record in whole lines of CSV has as many fields as there are columns, each in plain shape."""
        return self._plain.fullmatch(data) is not None

    def judge(self, record: Record) -> Record | Problem:
        """The record as it is to be read, or what is wrong with it.

        Whole numbers that are written as `2.0` become `2`. A record whose quote is never closed is left as it is.
        """
        if record.data.count(b'"') % 2:
            return record
        try:
            text = record.data.decode()
        except UnicodeDecodeError as error:
            return _not_text(record, f"0x{record.data[error.start]:02x}")
        if self.are_plain(record.data):
            return record
        if "\0" in text:
            return _not_text(record, "0x00")
        bare = text.rstrip("\r\n")
        if bare == _END_OF_COPY and len(self._columns) > 1:
            return Problem("", "missing data for column: the line holds only", bare)
        fields = bare.split(",") if '"' not in bare else [found[1] for found in _FIELD.finditer(bare)]
        if '"' in bare and not bare.endswith(","):
            fields = fields[:-1] if fields[-1] == "" else fields
        if len(fields) < len(self._columns):
            return Problem("", f'missing data for column "{self._columns[len(fields)].name}"', bare)
        if len(fields) > len(self._columns):
            return Problem("", "extra data after last expected column", bare)
        return self._judge_fields(record, fields, text[len(bare) :])

    def more_problems(self, following: Iterable[Record]) -> str:
        """How many of the first records that follow a bad one are bad as well, in words; nothing where none is."""
        verdicts = [self.judge(record) for record in itertools.islice(following, _LOOKED_AT)]
        bad = sum(isinstance(verdict, Problem) for verdict in verdicts)
        return f" (and {bad:,} more of the {len(verdicts):,} rows after it)" if bad else ""

    def _judge_fields(self, record: Record, fields: list[str], end: str) -> Record | Problem:
        changed = False
        for at, (column, field) in enumerate(zip(self._columns, fields, strict=True)):
            if field == "" or (column.postgres_type == "text" and not column.whole):
                continue
            value = field.replace('"', "")
            if column.whole and (whole := _WHOLE.fullmatch(value)) and whole[1] != value:
                fields[at], value, changed = whole[1], whole[1], True
            if message := _problem_with(column, value):
                return Problem(column.name, message, value)
        return Record(record.line_number, (",".join(fields) + end).encode()) if changed else record


def _plain_shape(column: Column) -> str:
    if column.postgres_type == "text":
        return r"\d*" if column.whole else _PLAIN["text"]
    return f"(?:{_PLAIN[column.postgres_type]})?"


def _not_text(record: Record, byte: str) -> Problem:
    return Problem("", f'invalid byte sequence for encoding "UTF8": {byte}', record.text)


def _problem_with(column: Column, value: str) -> str:
    type_ = column.postgres_type
    if column.whole and not _WHOLE.fullmatch(value):
        return f'not a whole number (invalid input for {type_}): "{value}"'
    if type_ == "text":
        return ""
    if not _EXACT[type_].fullmatch(value):
        if _LARGE_NUMBER.fullmatch(value) and _EXACT[type_].pattern == _NUMBER:
            return f'"{value}" is out of range for type {type_}'
        return f'invalid input syntax for type {type_}: "{value}"'
    if type_ in _LIMITS and not -_LIMITS[type_] <= int(value) < _LIMITS[type_]:
        return f'value "{value}" is out of range for type {type_}'
    if type_ in _CALENDAR:
        try:
            _CALENDAR[type_](value)
        except ValueError:
            return f'date/time field value out of range: "{value}"'
    return ""


_CALENDAR: dict[str, Callable[[str], object]] = {
    "date": datetime.date.fromisoformat,
    "timestamp": lambda value: datetime.date.fromisoformat(value[:10]),
}
