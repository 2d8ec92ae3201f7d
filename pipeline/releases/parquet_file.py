"""Reads a release file in Apache Parquet in batches, each cast to the columns that the spec declares."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.datasets import Column, Release, Source
from pipeline.errors import PipelineError
from pipeline.releases.parquet_values import TYPES, BadValue, WrongType, convert, csv_lines, kind_of
from pipeline.releases.survey import Survey, left_out, refusal

BATCH_ROWS = 8_192
_BUFFER_BYTES = 1 << 18  # so that a row group that holds the whole month is read piece by piece
_MAGIC = b"PAR1"  # https://parquet.apache.org/docs/file-format/: at both ends
_SHORTEST = 12  # both magics and the footer's length
_REMEDY = "if it is whole at its source, remove this copy with `pipeline forget` and run again"
_SHOWN_PROBLEMS = 12
_LONGEST_VALUE = 200


@dataclass(frozen=True)
class _Wanted:
    """A declared column, and the name that this file has for it, None where it has none."""

    column: Column
    name: str | None

    @property
    def type(self) -> pa.DataType:
        return TYPES[self.column.postgres_type]


class ParquetRelease:
    """A Parquet file on disk, open for one pass over its batches; a context manager.

    `columns` are all the declared columns under their warehouse names, in the spec's order; those that the file has
    not are NULL. `rows` is the footer's count. `notes` tells which columns were left out, to be logged by who wants to.

    :raises PipelineError: from here or while iterating, when the file is not what the dataset's spec says, is truncated
        or corrupt; the message names the file, column, row (from 1) and value where there is one, and the remedy.
    """

    format = "parquet"

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
        self.columns = self.dataset.column_names
        self._raw = path.open("rb")
        try:
            self.bytes_read = os.fstat(self._raw.fileno()).st_size
            self._check_ends()
            with self._readable("its footer"):
                self._file = pq.ParquetFile(
                    self._raw,
                    buffer_size=_BUFFER_BYTES,
                    pre_buffer=False,
                    coerce_int96_timestamp_unit="us",
                    page_checksum_verification=True,
                )
                self._fields: dict[str, pa.Field] = {field.name: field for field in self._file.schema_arrow}
            self.rows: int = self._file.metadata.num_rows
            self._wanted = self._match_columns()
            self._check_types()
            self.notes = self._leave_out_unknown(ignore_unknown_columns)
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> ParquetRelease:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the whole file, in hexadecimal digits."""
        self._raw.seek(0)
        return hashlib.file_digest(self._raw, "sha256").hexdigest()

    @property
    def text_bytes(self) -> int:
        """How long the file's pages are, decompressed."""
        metadata = self._file.metadata
        return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))

    def arrow_batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order, as the declared types: text as strings, timestamps in microseconds without a zone.

        No value is rounded or cut to fit: one that has no equal in the declared type is an error.
        """
        schema = pa.schema([pa.field(wanted.column.name, wanted.type) for wanted in self._wanted])
        first_row = 1
        for batch in self._read([wanted.name for wanted in self._wanted if wanted.name is not None]):
            yield pa.RecordBatch.from_arrays([self._cast(batch, w, first_row) for w in self._wanted], schema=schema)
            first_row += batch.num_rows

    def csv_text(self) -> Iterator[bytes]:
        """The rows as the CSV file that PostgreSQL would write of them: the header, then blocks of whole lines."""
        yield ",".join(column.source_name for column in self.dataset.columns).encode() + b"\n"
        for batch in self.arrow_batches():
            yield csv_lines(batch)

    def survey(self) -> Survey:
        """Counts the rows, and those in the release's month; reads one column only.

        :raises PipelineError: also when the rows are not as many as the footer says.
        """
        event = next((w for w in self._wanted if w.column.name == self.dataset.event_time), None)
        if event is None or event.name is None or not self.release.month:
            return Survey(self.rows, self.rows)
        found, first_row = Survey(), 1
        month = f"{self.release.month:%Y-%m}"
        for batch in self._read([event.name]):
            times = self._cast(batch, event, first_row)
            # A timestamp as its month's text would cost more than all else; whole months since 1970 do not.
            counted = pc.value_counts(pc.floor_temporal(times, unit="month")).to_pylist()
            found.months += Counter(
                {f"{count['values']:%Y-%m}": count["counts"] for count in counted if count["values"]}
            )
            found.rows += batch.num_rows
            first_row += batch.num_rows
        found.rows_in_month = found.months[month]
        if found.rows != self.rows:
            raise PipelineError(
                f"{self.label}: {found.rows:,} rows where the footer says {self.rows:,}; {self._remedy}"
            )
        return found

    def _check_ends(self) -> None:
        begins = self._raw.read(60)
        if not begins:
            raise PipelineError(f"{self.label}: the file is empty; {self._remedy}")
        if not begins.startswith(_MAGIC):
            shown = begins.split(b"\n")[0].decode("utf-8", "backslashreplace")
            raise PipelineError(f"{self.label}: not a Parquet file, as it begins with {shown!r}; {self._remedy}")
        self._raw.seek(-min(4, self.bytes_read), os.SEEK_END)
        if self.bytes_read < _SHORTEST or self._raw.read() != _MAGIC:
            raise PipelineError(f"{self.label}: the Parquet file is cut off; {self._remedy}")
        self._raw.seek(0)

    def _match_columns(self) -> list[_Wanted]:
        known = {alias.lower(): c.name for c in self.dataset.columns for alias in (c.source_name, *c.aliases)}
        names = list(self._file.schema_arrow.names)
        found: dict[str, str] = {}
        problems = []
        for name in names:
            column = known.get(name.lower())
            if names.count(name) > 1 or column in found:
                problems.append(f"repeats {name!r}")
            if column is not None:
                found[column] = name
        if not found:
            shown = ", ".join(names[:_SHOWN_PROBLEMS])
            raise PipelineError(
                f"{self.label}: not a {self.dataset.name} file, as its columns are {shown}; {self._remedy}"
            )
        wanted = self.dataset.columns_of(self.release.month, self.source)
        problems = [f"lacks {c.source_name}" for c in wanted if c.name not in found] + problems
        if problems:
            more = f" and has {len(problems) - _SHOWN_PROBLEMS} more problems" if problems[_SHOWN_PROBLEMS:] else ""
            raise PipelineError(
                f"{self.label}: the file {', '.join(problems[:_SHOWN_PROBLEMS])}{more}; if the publisher"
                f" changed it, change pipeline/datasets/{self.dataset.name}.yaml: a column that ended gets an `until`"
            )
        return [_Wanted(column, found.get(column.name)) for column in self.dataset.columns]

    def _check_types(self) -> None:
        for wanted in self._wanted:
            if wanted.name is None:
                continue
            type_ = self._fields[wanted.name].type
            try:
                convert(pa.nulls(0, type_), wanted.type, wanted.column.whole)
            except (WrongType, pa.ArrowException) as error:
                raise PipelineError(
                    f"{self.label}: the column {wanted.column.source_name} is of the type {type_}, which is not read as"
                    f" {wanted.column.postgres_type}; if the publisher changed it, change it in"
                    f" pipeline/datasets/{self.dataset.name}.yaml, too"
                ) from error

    def _leave_out_unknown(self, ignore: bool) -> tuple[str, ...]:
        read = {wanted.name for wanted in self._wanted}
        notes = []
        for name, field in self._fields.items():
            if name in read:
                continue
            values = self._count_values(name, field, stop_at_first=not ignore)
            if values and not ignore:
                raise refusal(self.label, name, kind_of(field.type), "has values", self.release)
            notes.append(left_out(name, values))
        return tuple(notes)

    def _count_values(self, name: str, field: pa.Field, stop_at_first: bool) -> int:
        if pa.types.is_null(field.type):
            return 0
        counted = self._values_in_statistics(name)
        if counted is not None:
            return counted
        values = 0
        for batch in self._read([name]):
            values += batch.num_rows - batch.column(0).null_count
            if values and stop_at_first:
                break
        return values

    def _values_in_statistics(self, name: str) -> int | None:
        metadata, values = self._file.metadata, 0
        for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
            chunks = [group.column(i) for i in range(group.num_columns)]
            (chunk, *more) = [c for c in chunks if c.path_in_schema.split(".")[0] == name] or [None]
            statistics = chunk.statistics if chunk is not None and not more else None
            if statistics is None or not statistics.has_null_count:
                return None
            values += group.num_rows - statistics.null_count
        return values

    def _read(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        rows = 0
        batches = self._file.iter_batches(BATCH_ROWS, columns=names, use_threads=False)
        while True:
            with self._readable(f"row {rows + 1:,} or one soon after"):
                batch = next(batches, None)
            if batch is None:
                return
            rows += batch.num_rows
            yield batch

    @contextlib.contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:_LONGEST_VALUE].rstrip(".")
            raise PipelineError(
                f"{self.label}: the Parquet file is damaged, {what} cannot be read ({reason}); {self._remedy}"
            ) from error

    def _cast(self, batch: pa.RecordBatch, wanted: _Wanted, first_row: int) -> pa.Array:
        if wanted.name is None:
            return pa.nulls(batch.num_rows, wanted.type)
        array = batch.column(batch.schema.get_field_index(wanted.name))
        try:
            return convert(array, wanted.type, wanted.column.whole)
        except (BadValue, pa.ArrowException):
            raise self._explain(array, wanted, first_row) from None

    def _explain(self, array: pa.Array, wanted: _Wanted, first_row: int) -> PipelineError:
        """Names the first of the values that cannot be cast."""
        fine, bad, reason = 0, len(array), ""  # the first `fine` values can be cast, the first `bad` cannot
        while bad - fine > 1 or not reason:
            middle = max(fine + (bad - fine) // 2, fine + 1)
            try:
                convert(array.slice(fine, middle - fine), wanted.type, wanted.column.whole)
                fine = middle
            except BadValue as error:
                bad, reason = middle, str(error)
            except pa.ArrowException:
                bad, reason = middle, f"not read as {wanted.column.postgres_type} without a change"
        try:
            shown = str(array[bad - 1])
        except (OverflowError, ValueError):  # a time that Python has none for
            shown = str(array[bad - 1].value)
        shown = shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + "…"
        return PipelineError(
            f"{self.label}, row {first_row + bad - 1:,}, column {wanted.column.source_name}: {reason}: {shown!r};"
            " nothing was loaded. Correct the file at its source and run again with --force"
        )
