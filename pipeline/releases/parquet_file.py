"""Reads an Apache Parquet release file in batches that are cast to the columns that the spec declares."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.datasets import Column, format_month
from pipeline.errors import PipelineError, shortened
from pipeline.releases import ReleaseFile, dropped_column_note, first_problems, shown_name
from pipeline.releases.parquet_values import TYPES, BadValue, WrongType, convert, csv_lines, kind_of_type

_BATCH_ROWS = 8_192
_BUFFER_BYTES = 1 << 18  # reads a row group in pieces, because it may contain the whole month
_MAGIC = b"PAR1"  # at both ends, see https://parquet.apache.org/docs/file-format/
_MIN_FILE_BYTES = 12  # both magic numbers and the footer's length
_MAX_SHOWN_CHARACTERS = 200
_MAX_SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class _MappedColumn:
    """A declared column and its name in the file, or None if the file does not have it."""

    column: Column
    name: str | None

    @property
    def type(self) -> pa.DataType:
        return TYPES[self.column.postgres_type]


class ParquetReleaseFile(ReleaseFile):
    """A Parquet file on disk, open for one pass over its batches.

    `columns` are all declared columns in the spec's order; columns that the file lacks are NULL. `rows` is the count in
    the footer. Error messages have the column, the row (from 1) and the value if known.
    """

    format = "parquet"

    def _open(self) -> None:
        self.columns = self.dataset.column_names
        self._check_magic()
        with self._translate_errors("its footer cannot be read"):
            self._file = pq.ParquetFile(
                self._raw,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                coerce_int96_timestamp_unit="us",
                page_checksum_verification=True,
            )
            self._fields: dict[str, pa.Field] = {field.name: field for field in self._file.schema_arrow}
        self.rows: int = self._file.metadata.num_rows
        self._mapped = self._match_columns()
        self._check_types()
        self.notes = tuple(self._dropped_columns())

    @property
    def text_bytes(self) -> int:
        """The length of the file's pages after decompression."""
        metadata = self._file.metadata
        return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))

    def arrow_batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows in order in the declared types: text as strings, timestamps in microseconds without a zone.

        Values are never rounded or truncated; a value that the declared type cannot represent is an error.
        """
        schema = pa.schema([pa.field(mapped.column.name, mapped.type) for mapped in self._mapped])
        first_row = 1
        for batch in self._read([mapped.name for mapped in self._mapped if mapped.name is not None]):
            yield pa.RecordBatch.from_arrays([self._cast(batch, w, first_row) for w in self._mapped], schema=schema)
            first_row += batch.num_rows

    def csv_text(self) -> Iterator[bytes]:
        """Yields the rows as CSV in the text format of PostgreSQL: the header, then blocks of complete lines.

        :raises PipelineError: also if a text has a line break and the spec does not say so.
        """
        yield ",".join(column.source_name for column in self.dataset.columns).encode() + b"\n"
        for batch in self.arrow_batches():
            lines = csv_lines(batch)
            if not self.dataset.lines_in_quotes and (b"\r" in lines or lines.count(b"\n") > batch.num_rows):
                raise PipelineError(
                    f"{self.label}: a text has a line break, which CSV may only have if {self.dataset.spec_file} sets"
                    " `lines_in_quotes: true`"
                )
            yield lines

    def survey(self) -> Counter[str | None]:
        """Counts the rows by month; reads one column only, or none.

        :raises PipelineError: also if the number of rows differs from the footer's.
        """
        event = next((w for w in self._mapped if w.column.name == self.dataset.event_time), None)
        if event is None or event.name is None or not self.release.month:
            return Counter({None: self.rows})
        months = Counter[str | None]()
        for batch in self._read([event.name]):
            times = self._cast(batch, event, months.total() + 1)
            # Formatting every timestamp would cost more than everything else; truncating them to months does not.
            counted = pc.value_counts(pc.floor_temporal(times, unit="month")).to_pylist()
            months.update({format_month(at) if (at := each["values"]) else "": each["counts"] for each in counted})
        if months.total() != self.rows:
            raise self._error(f"{months.total():,} rows, but its footer says {self.rows:,}")
        return months

    def _check_magic(self) -> None:
        beginning = self._raw.read(60)
        if not beginning.startswith(_MAGIC):
            shown = beginning.split(b"\n")[0].decode("utf-8", "backslashreplace")
            raise self._error(f"not a Parquet file: it begins with {shown!r}")
        self._raw.seek(-min(4, self.bytes_read), os.SEEK_END)
        if self.bytes_read < _MIN_FILE_BYTES or self._raw.read() != _MAGIC:
            raise self._error("the Parquet file is cut off")
        self._raw.seek(0)

    def _match_columns(self) -> list[_MappedColumn]:
        names = list(self._file.schema_arrow.names)
        matched, problems = self._match(names)
        found = dict(zip(matched, names, strict=True))
        if not found.keys() & {*self.columns}:
            shown = ", ".join(map(shown_name, names[:_MAX_SHOWN_COLUMNS]))
            raise self._error(f"not a {self.dataset.name} file: its columns are {shown}")
        if problems:
            raise PipelineError(
                f"{self.label}: the file {first_problems(problems)}; if the publisher changed it, change"
                f" {self.dataset.spec_file}: give a column that was dropped an `until`, and one that was added later a"
                " later `since`"
            )
        return [_MappedColumn(column, found.get(column.name)) for column in self.dataset.columns]

    def _check_types(self) -> None:
        for mapped in self._mapped:
            if mapped.name is None:
                continue
            type_ = self._fields[mapped.name].type
            try:
                convert(pa.nulls(0, type_), mapped.type, mapped.column.whole)
            except (WrongType, pa.ArrowException) as error:
                raise PipelineError(
                    f"{self.label}: the column {mapped.column.source_name} is of the type {_shown_type(type_)}, which"
                    f" cannot be read as {mapped.column.postgres_type}; if the publisher changed it, change it in"
                    f" {self.dataset.spec_file}, too"
                ) from error

    def _dropped_columns(self) -> Iterator[str]:
        """Yields a note for each column that the spec does not declare.

        :raises PipelineError: if such a column has a value and unknown columns are not to be ignored.
        """
        read = {mapped.name for mapped in self._mapped}
        for name in (name for name in self._fields if name not in read):
            type_ = self._fields[name].type
            values = self._count_values(name, type_)
            if values and not self._ignore_unknown_columns:
                kind = kind_of_type(type_)
                found = "has values" if kind else f"has values of the type {_shown_type(type_)}"
                raise self._undeclared_column_error(name, kind, found)
            yield dropped_column_note(name, values)

    def _count_values(self, name: str, type_: pa.DataType) -> int:
        """Counts a column's values; only to the first one if unknown columns are not to be ignored."""
        if pa.types.is_null(type_):
            return 0
        values = 0
        for batch in self._read([name]):
            values += batch.num_rows - batch.column(name).null_count
            if values and not self._ignore_unknown_columns:
                break
        return values

    def _read(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        rows = 0
        batches = self._file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False)
        while True:
            with self._translate_errors(f"it cannot be read near row {rows + 1:,}"):
                batch = next(batches, None)
            if batch is None:
                return
            rows += batch.num_rows
            yield batch

    @contextlib.contextmanager
    def _translate_errors(self, problem: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:_MAX_SHOWN_CHARACTERS].rstrip(".")
            raise self._error(f"the Parquet file is damaged, {problem} ({reason})") from error

    def _cast(self, batch: pa.RecordBatch, mapped: _MappedColumn, first_row: int) -> pa.Array:
        if mapped.name is None:
            return pa.nulls(batch.num_rows, mapped.type)
        array = batch.column(batch.schema.get_field_index(mapped.name))
        try:
            return convert(array, mapped.type, mapped.column.whole)
        except (BadValue, pa.ArrowException):
            raise self._value_error(array, mapped, first_row) from None

    def _value_error(self, array: pa.Array, mapped: _MappedColumn, first_row: int) -> PipelineError:
        """Returns the error for the first value that cannot be cast."""
        reason = ""
        for index in range(len(array)):
            try:
                convert(array.slice(index, 1), mapped.type, mapped.column.whole)
                continue
            except BadValue as error:
                reason = str(error)
            except pa.ArrowException:
                type_ = "a whole number" if mapped.column.whole else mapped.column.postgres_type
                reason = f"cannot be read as {type_} without a change"
            break
        try:
            shown = str(array[index])
        except (OverflowError, ValueError):  # a time that Python cannot represent
            shown = str(array[index].value)
        shown = shortened(shown, _MAX_SHOWN_CHARACTERS)
        return PipelineError(
            f"{self.label}, row {first_row + index:,}, column {mapped.column.source_name}: {reason}: {shown!r};"
            " nothing was loaded. Correct the file at its source and run again with --force"
        )


def _shown_type(type_: pa.DataType) -> str:
    """Returns a type on one line, whatever the names of nested fields, and not too long."""
    return shortened(repr(str(type_))[1:-1], _MAX_SHOWN_CHARACTERS)
