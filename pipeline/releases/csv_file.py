"""Reads a CSV release file, usually gzipped, in blocks of complete records."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, cast

from isal import igzip, isal_zlib

from pipeline.datasets import format_month
from pipeline.datasets.spec import COLUMN_NAME
from pipeline.errors import PipelineError
from pipeline.releases import ReleaseFile, dropped_column_note, first_problems
from pipeline.releases.csv_records import Block, count_records, records

BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 1 << 20  # limits memory if an unclosed quote makes the rest of the file one record
_MAX_HEADER_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1; the file's name can be wrong
_UTF8_BOM = b"\xef\xbb\xbf"
_CORRUPT: tuple[type[Exception], ...] = (gzip.BadGzipFile, cast(type[Exception], isal_zlib.error), zlib.error)
_TYPICAL_SHARE = 0.9  # of a block's rows in the month; above it, the estimate is used instead of an exact count
_MAX_SHOWN_CHARACTERS = 80
_FIELD = re.compile(rb'(?:^|(?<=,))(?:"[^"]*"|[^,"])*')
_QUOTED_HEADER = re.compile(rb'"[^"]*"(?:,"[^"]*")*')
# The first alternative, whose value is the group, is a field that means the same without its quotes.
_QUOTED_FIELD = re.compile(rb'"([^",\r\n\\]*)"(?!")|"(?:[^"]|"")*"')


class CsvReleaseFile(ReleaseFile):
    """A CSV file on disk, open for one pass.

    `header` is the first line without dropped columns. `blocks()` yields the rest; if the last line has no newline, one
    is added and is in `added_newline`. After the last block, `text_bytes` is the length of the file's text.

    If all names in the header are quoted, quotes do not mean that a value is a text: fields have them only if needed,
    and blanks none, as in the same file written without them.
    """

    format = "csv"

    def _open(self) -> None:
        is_gzipped = self._raw.peek(2).startswith(_GZIP_MAGIC)
        self._lines = cast(BinaryIO, igzip.open(self._raw, "rb") if is_gzipped else self._raw)
        self.header = self._read(self._lines.readline, _MAX_HEADER_BYTES)
        self.added_newline = b""
        self._newline = b"\r\n" if self.header.endswith(b"\r\n") else b"\n"
        self.text_bytes = len(self.header)
        self._quotes_all = _QUOTED_HEADER.fullmatch(self.header.removeprefix(_UTF8_BOM).rstrip(b"\r\n")) is not None
        names = self._match_header()
        declared = set(self.dataset.column_names)
        self._unknown_indexes = {name: index for index, name in enumerate(names) if name not in declared}
        self._unknown_values = dict.fromkeys(self._unknown_indexes, 0)  # number of values by column
        self.columns = tuple(name for name in names if name in declared)
        if self._unknown_values:
            self.header = ",".join(self.columns).encode() + self._newline

    def blocks(self) -> Iterator[Block]:
        """Yields the records in order; verifies the gzip checksum at the end."""
        line = 2
        while chunk := self._read(self._lines.read, BLOCK_BYTES):
            data = chunk + self._read_rest_of_record(chunk, line)
            if b'"' in data and not self.dataset.lines_in_quotes:
                self._check_quotes(data, line)
            rows = count_records(data)
            self.text_bytes += len(data)
            if self._quotes_all:
                data = _QUOTED_FIELD.sub(lambda field: field[0] if field[1] is None else field[1], data)
            yield Block(self._drop_unknown_columns(data, line) if self._unknown_values else data, line, rows)
            line += data.count(b"\n") if b'"' in data else rows
        self.notes = tuple(dropped_column_note(name, values) for name, values in self._unknown_values.items())
        _ = self.sha256  # computed here, not in the transaction that ends a load

    def survey(self) -> Counter[str | None]:
        months = Counter[str | None]()
        for block in self.blocks():
            months.update(self._count_by_month(block))
        return months

    def _count_by_month(self, block: Block) -> Mapping[str | None, int]:
        """Counts a block's rows; by its text, without parsing records, if almost all are in the release's month."""
        if not self.release.month or self.dataset.event_time not in self.columns:
            return {None: block.rows}
        month = format_month(self.release.month)
        times = sum(c.postgres_type == "timestamp" for c in self.dataset.columns if c.name in self.columns)
        estimate = min(block.rows, block.data.count(f"{month}-".encode()) // times)
        if estimate >= block.rows * _TYPICAL_SHARE:
            return {month: estimate, "": block.rows - estimate}
        index = self.columns.index(self.dataset.event_time)
        rows = (next(csv.reader([record.text]), []) for record in records(block))
        return Counter(fields[index][:7] if len(fields) > index else "" for fields in rows)

    def _check_quotes(self, data: bytes, first_line: int) -> None:
        """Rejects a line with an unclosed quote, which would otherwise extend its field over the rows that follow."""
        for line, text in enumerate(data.split(b"\n"), first_line):
            if text.count(b'"') % 2:
                shown = text[: _MAX_SHOWN_CHARACTERS // 2].decode("utf-8", "backslashreplace").rstrip("\r")
                raise PipelineError(
                    f"{self.label}, line {line:,}: a quote that is not closed in its line, {shown!r}; {self._remedy},"
                    f" or set `lines_in_quotes: true` in {self.dataset.spec_file} if values may have line breaks"
                )

    def _drop_unknown_columns(self, data: bytes, first_line: int) -> bytes:
        """Returns the records without the columns that the spec does not declare.

        :raises PipelineError: if such a column has a value and unknown columns are not to be ignored.
        """
        kept, unknown = [], set(self._unknown_indexes.values())
        for record in records(Block(data, first_line, 0)):
            body = record.data.rstrip(b"\r\n")
            fields = _FIELD.findall(body) if b'"' in body else body.split(b",")
            if len(fields) <= max(unknown):
                problem = f"{len(fields)} fields, fewer than there are columns"
                raise self._error(problem, f", line {record.line_number:,}")
            for name, index in self._unknown_indexes.items():
                value = fields[index].strip(b'"')
                if value and not self._ignore_unknown_columns:
                    text = value.decode("utf-8", "backslashreplace")
                    found = f"has values, the first on line {record.line_number:,}: {text[:_MAX_SHOWN_CHARACTERS]!r}"
                    raise self._undeclared_column_error(name, _kind_of(text), found)
                self._unknown_values[name] += bool(value)
            line = b",".join(field for index, field in enumerate(fields) if index not in unknown)
            kept.append(line + record.data[len(body) :])
        return b"".join(kept)

    def _read_rest_of_record(self, chunk: bytes, first_line: int) -> bytes:
        """Reads the rest of the record in which the chunk ends; adds the final newline if the file has none."""
        rest, size, last = list[bytes](), 0, chunk
        spans_lines = self.dataset.lines_in_quotes
        quoted = chunk.count(b'"') % 2 if spans_lines and b'"' in chunk else 0
        while quoted or not last.endswith(b"\n"):
            if size > MAX_RECORD_BYTES:
                problem = f"a record of more than {MAX_RECORD_BYTES:,} bytes, probably because a quote is never closed"
                raise self._error(problem, _last_record_place(chunk, first_line))
            piece = self._read(self._lines.readline, MAX_RECORD_BYTES)
            if quoted and not piece:
                raise self._error("a quote that is never closed", _last_record_place(chunk, first_line))
            if not piece:
                self.added_newline = b"" if last.endswith(b"\n") else self._newline.removeprefix(last[-1:])
                return b"".join(rest) + self.added_newline
            rest.append(piece)
            size, last, quoted = size + len(piece), piece, (quoted + piece.count(b'"')) % 2 * spans_lines
        return b"".join(rest)

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            return read(size)
        except EOFError as error:
            raise self._error("the gzip stream is cut off, or other bytes follow it") from error
        except _CORRUPT as error:
            raise self._error(f"the gzip stream is corrupt ({error})") from error

    def _match_header(self) -> list[str]:
        """Returns the columns of the file in its order: the warehouse's names of those that the spec declares."""
        if not self.header:
            raise self._error("the file is empty")
        text = self.header.removeprefix(_UTF8_BOM).decode("utf-8", "backslashreplace").rstrip("\r\n")
        try:
            names = [name.strip() for name in next(csv.reader([text]), [])]
        except csv.Error:  # for example, a carriage return within the line
            names = []
        found, problems = self._match(names)
        if not set(self.dataset.column_names).intersection(found):
            shown = self.header.decode("utf-8", "backslashreplace").rstrip("\r\n")[:60]
            raise self._error(f"not a {self.dataset.name} file: it begins with {shown!r}", ", line 1")
        added = [name for name in found if name not in self.dataset.column_names]
        # An additional column without values is accepted; _drop_unknown_columns checks its values.
        if problems or not all(map(COLUMN_NAME.fullmatch, added)):
            problems += [f"adds {name!r}" for name in added]
            raise PipelineError(
                f"{self.label}, line 1: the header {first_problems(problems)}; if the publisher changed the file,"
                f" change the columns in {self.dataset.spec_file} and raise its version"
            )
        return found


def _last_record_place(chunk: bytes, first_line: int) -> str:
    """Returns where the record begins that the chunk does not end, for an error message."""
    start = chunk.rfind(b'"') if chunk.count(b'"') % 2 else len(chunk)
    line = first_line + chunk.count(b"\n", 0, start)
    return f", line {line}"


def _kind_of(value: str) -> str:
    """Returns the key in `releases.TYPES` of a value's type."""
    for kind, parse in (("integer", int), ("number", float)):
        try:
            parse(value)
            return kind
        except ValueError:
            pass
    return "text"
