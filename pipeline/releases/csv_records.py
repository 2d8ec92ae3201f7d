"""Splits blocks of CSV into records, counts them, and validates their fields by column type.

A record ends at a newline outside quotes, and every quote character opens or closes a quoted part. This is PostgreSQL's
rule, which agrees with other parsers for well-formed CSV.

Fields are accepted as the publisher writes them and as PostgreSQL prints them. PostgreSQL accepts more, and gives some
of it another meaning: `now` as a time, `1_000` and `0x10` as integers, `NaN` as a number, a time without its zone. RE2
matches a whole block at once if all its values have the usual shape; records of other blocks are checked one by one.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import re2

from pipeline.datasets import Column, Dataset
from pipeline.errors import PipelineError, shortened

_QUOTED = re.compile(rb'"[^"]*"')
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
# The usual shape of values; each alternative makes the automaton larger and slower.
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
# All accepted values. 38 digits and a two-digit exponent exceed any real amount, and sums do not overflow.
_NUMBER = r"-?(?:\d{1,38}\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?"
_ACCEPTED = {
    **{name: re.compile(pattern, re.ASCII | re.IGNORECASE) for name, pattern in _PLAIN.items() if name != "text"},
    "integer": re.compile(r"-?\d{1,10}", re.ASCII),
    "bigint": re.compile(r"-?\d{1,19}", re.ASCII),
    "double precision": re.compile(_NUMBER, re.ASCII),
    "numeric": re.compile(_NUMBER, re.ASCII),
}
_LARGE_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"(-?\d{1,18})(?:\.0*)?", re.ASCII)
_END_OF_COPY = "\\."  # PostgreSQL before version 18 silently stops reading here
_LIMITS = {"integer": 2**31, "bigint": 2**63}
_MAX_SHOWN_CHARACTERS = 200
_CHECKED_AFTER = 10_000
_FIELD = re.compile(r'(?:^|(?<=,))(?:"[^"]*"|[^,"])*')


@dataclass(frozen=True)
class Block:
    """Complete CSV records, each ended by a newline.

    `first_line` is the number of the block's first line in the file (the header is line 1); `rows` counts records.
    """

    data: bytes
    first_line: int
    rows: int


@dataclass(frozen=True)
class Record:
    """One CSV record with its line ending, and the number of its first line in the file."""

    line_number: int
    data: bytes

    @property
    def text(self) -> str:
        """The record as text without its line ending; NUL and bytes that are not UTF-8 are escaped."""
        return self.data.rstrip(b"\r\n").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def records(block: Block) -> Iterator[Record]:
    """Yields the block's records; slow, so used only if single records are needed."""
    line, start, pending, quoted = block.first_line, block.first_line, list[bytes](), False
    for piece in block.data.split(b"\n")[:-1]:  # not splitlines(): a lone CR is not a line ending
        pending.append(piece + b"\n")
        line += 1
        quoted ^= piece.count(b'"') % 2 == 1
        if not quoted:
            yield Record(start, b"".join(pending))
            start, pending = line, []
    if pending:
        yield Record(start, b"".join(pending))


def count_records(data: bytes) -> int:
    """Returns the number of records, each ended by a newline; an unclosed quote extends its record to the end."""
    if b'"' not in data:
        return data.count(b"\n")
    open_quote = data.rfind(b'"') if data.count(b'"') % 2 else len(data)
    return _QUOTED.sub(b"", data[:open_quote]).count(b"\n") + (open_quote < len(data))


def bad_row_error(label: str, line_number: int, detail: str, outcome: str, alternative: str = "") -> PipelineError:
    """Returns the error for a file with a bad row; `outcome` completes "nothing was …"."""
    return PipelineError(
        f"{label}, line {line_number}, {detail}; nothing was {outcome}. Fix the file at its source and run again with"
        f" --force{alternative}"
    )


@dataclass(frozen=True)
class InvalidRecord:
    """Why a record is invalid, in PostgreSQL's words; `column` is empty if the problem is not in a single column."""

    column: str
    message: str
    value: str

    @property
    def detail(self) -> str:
        """The column, the message and the value in one line; long values are truncated."""
        where = f"column {self.column}: " if self.column else ""
        shown = shortened(self.value, _MAX_SHOWN_CHARACTERS)
        detail = f"{where}{self.message}" + (f": {shown}" if shown and shown not in self.message else "")
        return detail.replace("\r", "\\r").replace("\n", "\\n")


# Called with an invalid record, the reason, and an iterator over the records that follow it in the block.
Reject = Callable[[Record, InvalidRecord, Iterator[Record]], None]


class CsvValues:
    """Validates the records of a file with the given columns of the dataset, in that order."""

    def __init__(self, dataset: Dataset, names: Sequence[str]):
        declared = {column.name: column for column in dataset.columns}
        self._columns = columns = [declared[name] for name in names]
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1  # any bytes; the database checks that they are UTF-8
        options.never_capture = True
        line = ",".join(f"(?:{_plain_pattern(column)})" for column in columns)
        self._plain = re2.compile(f"(?:{line}\\r?\\n)*".encode(), options)

    def match_plain_shape(self, data: bytes) -> bool:
        """Returns whether every record has the right number of fields and all values have their usual shape."""
        return self._plain.fullmatch(data) is not None

    def check(self, record: Record) -> Record | InvalidRecord:
        """Returns the record to load, or why it is invalid.

        Whole numbers written as `2.0` become `2`.
        """
        try:
            text = record.data.decode()
        except UnicodeDecodeError as error:
            return _invalid_encoding(record, f"0x{record.data[error.start]:02x}")
        if self.match_plain_shape(record.data):
            return record
        if "\0" in text:
            return _invalid_encoding(record, "0x00")
        bare = text.rstrip("\r\n")
        if bare == _END_OF_COPY:
            return InvalidRecord("", "missing data for column: the line holds only", bare)
        fields = bare.split(",") if '"' not in bare else _FIELD.findall(bare)
        if len(fields) < len(self._columns):
            return InvalidRecord("", f'missing data for column "{self._columns[len(fields)].name}"', bare)
        if len(fields) > len(self._columns):
            return InvalidRecord("", "extra data after last expected column", bare)
        return self._check_fields(record, fields, text[len(bare) :])

    def valid_records(self, block: Block, reject: Reject) -> Iterator[Record]:
        """Yields the block's valid records as `check` returns them; passes invalid ones to `reject`."""
        remaining = records(block)
        for record in remaining:
            checked = self.check(record)
            if isinstance(checked, InvalidRecord):
                reject(record, checked, remaining)
            else:
                yield checked

    def describe_further_invalid(self, remaining: Iterable[Record]) -> str:
        """Returns, in words, how many of the first remaining records are invalid as well; empty if none is."""
        results = [self.check(record) for record in itertools.islice(remaining, _CHECKED_AFTER)]
        invalid = sum(isinstance(result, InvalidRecord) for result in results)
        return f" (and {invalid:,} more of the {len(results):,} rows after it)" if invalid else ""

    def _check_fields(self, record: Record, fields: list[str], end: str) -> Record | InvalidRecord:
        changed = False
        for index, (column, field) in enumerate(zip(self._columns, fields, strict=True)):
            if field == "" or (column.postgres_type == "text" and not column.whole):
                continue
            value = field.replace('"', "")
            if column.whole and (whole := _WHOLE.fullmatch(value)) and whole[1] != value:
                fields[index], value, changed = whole[1], whole[1], True
            if message := _field_problem(column, value):
                return InvalidRecord(column.name, message, value)
        return Record(record.line_number, (",".join(fields) + end).encode()) if changed else record


def _plain_pattern(column: Column) -> str:
    if column.postgres_type == "text":
        return r"\d*" if column.whole else _PLAIN["text"]
    return f"(?:{_PLAIN[column.postgres_type]})?"


def _invalid_encoding(record: Record, byte: str) -> InvalidRecord:
    return InvalidRecord("", f'invalid byte sequence for encoding "UTF8": {byte}', record.text)


def _field_problem(column: Column, value: str) -> str:
    type_ = column.postgres_type
    if column.whole and not _WHOLE.fullmatch(value):
        return f'not a whole number (invalid input for {type_}): "{value}"'
    if type_ == "text":
        return ""
    if not _ACCEPTED[type_].fullmatch(value):
        if _LARGE_NUMBER.fullmatch(value) and _ACCEPTED[type_].pattern == _NUMBER:
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
