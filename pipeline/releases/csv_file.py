"""Reads a CSV release file, usually gzipped, in blocks of complete records."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from isal import igzip, isal_zlib

from pipeline.datasets import Column, Release, Source, format_month
from pipeline.errors import PipelineError
from pipeline.releases.csv_records import Block, Record, count_records, records
from pipeline.releases.survey import Survey, dropped_column_note, infer_kind, undeclared_column_error

__all__ = ["Block", "CsvRelease", "Record", "records"]

BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 1 << 20  # limits memory if an unclosed quote makes the rest of the file one record
_MAX_HEADER_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1; the file's name can be wrong
_UTF8_BOM = b"\xef\xbb\xbf"
_CORRUPT: tuple[type[Exception], ...] = (gzip.BadGzipFile, cast(type[Exception], isal_zlib.error), zlib.error)


class CsvRelease:
    """A CSV file on disk, open for one pass; `columns` are the warehouse's names in the file's order.

    `header` is the first line without dropped columns. `blocks()` yields the rest; if the last line has no newline, one
    is added and is in `added_newline`. After the last block, `sha256` and `bytes_read` describe the file as stored,
    compressed or not, and `text_bytes` is the length of its text.

    `label` is the file's name in error messages, by default its path; `remedy` is their advice.

    :raises PipelineError: here or while iterating, if the file does not match the dataset's spec, is truncated or
        corrupt; the message has the file, the line if known, and the remedy.
    """

    format = "csv"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        release: Release,
        source: Source,
        label: str | None = None,
        remedy: str | None = None,
        ignore_unknown_columns: bool = False,
    ):
        self.label = label or str(path)
        self._remedy = remedy or _REMEDY
        self.release, self.source, self.dataset = release, source, release.dataset
        self._ignore_unknown_columns = ignore_unknown_columns
        self._raw = _HashingReader(path)
        self._lines = self._decompressed()
        with self._translate_errors():
            self.header = self._lines.readline(_MAX_HEADER_BYTES)
        self.added_newline = b""
        self._newline = b"\r\n" if self.header.endswith(b"\r\n") else b"\n"
        self.text_bytes = len(self.header)
        names = self._match_header(self.header)
        declared = set(self.dataset.column_names)
        self._unknown_indexes = {name: index for index, name in enumerate(names) if name not in declared}
        self._unknown_values = dict.fromkeys(self._unknown_indexes, 0)  # number of values by column
        self.columns = tuple(name for name in names if name in declared)
        if self._unknown_values:
            self.header = ",".join(self.columns).encode() + self._newline

    def __enter__(self) -> CsvRelease:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._raw.close()

    @property
    def bytes_read(self) -> int:
        """The number of bytes read from the file so far, before decompression."""
        return self._raw.bytes_read

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes read so far, in hexadecimal."""
        return self._raw.digest.hexdigest()

    def blocks(self) -> Iterator[Block]:
        """Yields the records in order; verifies the gzip checksum at the end."""
        line = 2
        while chunk := self._read(BLOCK_BYTES):
            data = chunk + self._read_rest_of_record(chunk, line)
            if b'"' in data and not self.dataset.lines_in_quotes:
                self._check_quotes(data, line)
            rows = count_records(data)
            self.text_bytes += len(data)
            yield Block(self._drop_unknown_columns(data, line) if self._unknown_values else data, line, rows)
            line += data.count(b"\n") if b'"' in data else rows
        self.notes = tuple(dropped_column_note(name, values) for name, values in self._unknown_values.items())

    def _check_quotes(self, data: bytes, first_line: int) -> None:
        """Rejects a line with an unclosed quote, which would otherwise extend its field over the rows that follow."""
        for line, text in enumerate(data.split(b"\n"), first_line):
            if text.count(b'"') % 2:
                shown = text[: _MAX_SHOWN_CHARACTERS // 2].decode("utf-8", "backslashreplace").rstrip("\r")
                raise PipelineError(
                    f"{self.label}, line {line:,}: a quote that is not closed in its line, {shown!r}; {self._remedy},"
                    f" or say `lines_in_quotes: true` in pipeline/datasets/{self.dataset.name}.yaml if they may be open"
                )

    def _drop_unknown_columns(self, data: bytes, first_line: int) -> bytes:
        """Returns the records without the columns that the spec does not declare.

        :raises PipelineError: if such a column has a value and unknown columns are not to be ignored.
        """
        kept = []
        for record in records(Block(data, first_line, 0)):
            body = record.data.rstrip(b"\r\n")
            fields = _FIELD.findall(body) if b'"' in body else body.split(b",")
            if len(fields) <= max(self._unknown_indexes.values()):
                raise PipelineError(
                    f"{self.label}, line {record.line_number:,}: {len(fields)} fields, fewer than there are columns;"
                    f" {self._remedy}"
                )
            for name, index in self._unknown_indexes.items():
                value = fields[index].strip(b'"')
                if value and not self._ignore_unknown_columns:
                    text = value.decode("utf-8", "backslashreplace")
                    found = f"has values, the first on line {record.line_number:,}: {text[:_MAX_SHOWN_CHARACTERS]!r}"
                    raise undeclared_column_error(self.label, name, infer_kind([text]), found, self.release)
                self._unknown_values[name] += bool(value)
            unknown = set(self._unknown_indexes.values())
            line = b",".join(field for index, field in enumerate(fields) if index not in unknown)
            kept.append(line + record.data[len(body) :])
        return b"".join(kept)

    def survey(self) -> Survey:
        """Reads the whole file and counts its records, in total and by month."""
        found, count = Survey(), self._month_counter()
        for block in self.blocks():
            found.rows += block.rows
            count(block, found)
        return found

    def _month_counter(self) -> Callable[[Block, Survey], None]:
        """Returns a function that adds a block to a survey.

        Blocks that are almost completely in the release's month are counted by their text, without parsing records.
        """
        month, event_time = self.release.month, self.dataset.event_time
        if month is None or event_time not in self.columns:
            return _count_all
        text = f"{month:%Y-%m}-".encode()
        index = self.columns.index(event_time)
        types = {column.name: column.postgres_type for column in self.dataset.columns}
        times = sum(types[name] == "timestamp" for name in self.columns)

        def count(block: Block, found: Survey) -> None:
            estimate = min(block.rows, block.data.count(text) // times)
            if estimate >= block.rows * _TYPICAL_SHARE:
                found.rows_in_month += estimate
                found.months[format_month(month)] += estimate
                return
            for record in records(block):
                fields = next(csv.reader([record.text]), [])
                value = fields[index][:7] if len(fields) > index else ""
                found.months[value] += 1
                found.rows_in_month += value == format_month(month)

        return count

    def _read_rest_of_record(self, chunk: bytes, first_line: int) -> bytes:
        """Reads the rest of the record in which the chunk ends; adds the final newline if the file has none."""
        rest, size, last = list[bytes](), 0, chunk
        spans_lines = self.dataset.lines_in_quotes
        quoted = chunk.count(b'"') % 2 if spans_lines and b'"' in chunk else 0
        while quoted or not last.endswith(b"\n"):
            if size > MAX_RECORD_BYTES:
                line = first_line + chunk.count(b"\n", 0, chunk.rfind(b'"') if quoted else len(chunk))
                raise PipelineError(
                    f"{self.label}, line {line}: a record of more than {MAX_RECORD_BYTES:,} bytes, so probably a quote"
                    f" that is never closed; {self._remedy}"
                )
            if not (piece := self._read_line()):
                self.added_newline = b"" if last.endswith(b"\n") else self._newline.removeprefix(last[-1:])
                return b"".join(rest) + self.added_newline
            rest.append(piece)
            size, last, quoted = size + len(piece), piece, (quoted + piece.count(b'"')) % 2 * spans_lines
        return b"".join(rest)

    def _read(self, size: int) -> bytes:
        with self._translate_errors():
            return self._lines.read(size)

    def _read_line(self) -> bytes:
        with self._translate_errors():
            return self._lines.readline(MAX_RECORD_BYTES)

    def _decompressed(self) -> BinaryIO:
        magic = self._raw.peek(2)
        if not magic:
            raise PipelineError(f"{self.label}: the file is empty; {self._remedy}")
        if magic == _GZIP_MAGIC:
            return cast(BinaryIO, igzip.open(self._raw, "rb"))
        return io.BufferedReader(self._raw, BLOCK_BYTES)

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except EOFError as error:
            raise PipelineError(
                f"{self.label}: the gzip stream is cut off, or other bytes follow it; {self._remedy}"
            ) from error
        except _CORRUPT as error:
            raise PipelineError(f"{self.label}: the gzip stream is corrupt ({error}); {self._remedy}") from error

    def _match_header(self, header: bytes) -> tuple[str, ...]:
        names = _column_names(header)
        lowered = [name.lower() for name in names]
        known = {alias.lower(): c.name for c in self.dataset.columns for alias in (c.source_name, *c.aliases)}
        lowered = [known.get(name, name) for name in lowered]
        if not set(known.values()).intersection(lowered):
            shown = header.decode("utf-8", "backslashreplace").rstrip("\r\n")[:60]
            raise PipelineError(
                f"{self.label}, line 1: not a {self.dataset.name} file, as it begins with {shown!r}; {self._remedy}"
            )
        problems = [f"lacks {c.source_name}" for c in self._expected_columns() if c.name not in lowered]
        adds = [name for name in names if name.lower() not in known]
        repeats = [f"repeats {name!r}" for i, name in enumerate(names) if name.lower() in lowered[:i]]
        # An additional column without values is accepted; _drop_unknown_columns checks its values.
        if problems or repeats or not all(map(_NAME.fullmatch, adds)):
            problems += [*(f"adds {name!r}" for name in adds), *repeats]
            more = f" and has {len(problems) - _SHOWN_PROBLEMS} more problems" if problems[_SHOWN_PROBLEMS:] else ""
            raise PipelineError(
                f"{self.label}, line 1: the header {', '.join(problems[:_SHOWN_PROBLEMS])}{more}; if the publisher"
                f" changed the file, change the columns in pipeline/datasets/{self.dataset.name}.yaml and raise its"
                f" version"
            )
        return tuple(lowered)

    def _expected_columns(self) -> tuple[Column, ...]:
        return self.dataset.columns_of(self.release.month, self.source)


def _count_all(block: Block, found: Survey) -> None:
    found.rows_in_month += block.rows


_TYPICAL_SHARE = 0.9  # of a block's rows in the month; above it, the estimate is used instead of an exact count
_REMEDY = "if it is complete at its source, remove this copy with `pipeline forget` and run again"
_SHOWN_PROBLEMS, _MAX_SHOWN_CHARACTERS = 12, 80
_FIELD = re.compile(rb'(?:^|(?<=,))(?:"[^"]*"|[^,"])*')
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def _column_names(header: bytes) -> list[str]:
    text = header.removeprefix(_UTF8_BOM).decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        return [name.strip() for name in next(csv.reader([text]), [])]
    except csv.Error:  # for example, a carriage return within the line
        return []


class _HashingReader(io.RawIOBase):
    """A file that keeps the digest of what has been read of it."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        self.digest = hashlib.sha256()
        self.bytes_read = 0

    def peek(self, size: int) -> bytes:
        start = self._file.read(size)
        self._file.seek(0)
        return start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:size])
        self.bytes_read += size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
