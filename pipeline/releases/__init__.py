"""Release files as the publisher made them: opening a file of any format, and what files of all formats share."""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

from pipeline.datasets import Release, Source, format_month
from pipeline.datasets.spec import COLUMN_NAME, RESERVED_COLUMNS
from pipeline.errors import PipelineError, counted, shortened

if TYPE_CHECKING:
    from pipeline.releases.csv_file import CsvReleaseFile
    from pipeline.releases.parquet_file import ParquetReleaseFile

AnyReleaseFile: TypeAlias = "CsvReleaseFile | ParquetReleaseFile"

# The PostgreSQL and BigQuery types to declare for each kind of values.
TYPES = {
    "text": ("text", "STRING"),
    "integer": ("bigint", "INT64"),
    "number": ("double precision", "NUMERIC"),
    "boolean": ("boolean", "BOOL"),
    "time": ("timestamp", "TIMESTAMP"),
    "date": ("date", "DATE"),
}
# Not `pipeline forget`, which would also remove the month from the warehouses that have it.
_REMEDY = "if it is complete at its source, run again with --force, which downloads it again"
_SHOWN_PROBLEMS = 12
_SHOWN_CHARACTERS = 80


def open_release(
    path: Path,
    release: Release,
    *,
    source: str = "",
    label: str | None = None,
    remedy: str | None = None,
    ignore_unknown_columns: bool = False,
) -> AnyReleaseFile:
    """Returns the release file at `path`; `ReleaseFile` says what the options mean and which errors are raised.

    Depending on its `format`, it has `blocks()` of CSV or `arrow_batches()`. `source` is the name of the one that
    the file came from; if it is empty or not declared, it is the release's first source of the same format.
    """
    format_ = "parquet" if path.suffix == ".parquet" else "csv"
    origin = min(release.sources(), key=lambda each: (each.name != source, each.format != format_))
    return reader_of(origin.format)(path, release, origin, label, remedy, ignore_unknown_columns)


def reader_of(format_: str) -> type[AnyReleaseFile]:
    """Returns the class that reads files of that format; imports its module, which takes time for Parquet."""
    # Arrow's buffered streams grow with a column chunk of small pages (`BufferedInputStream::Peek`). The system's
    # allocator grows them in place and keeps tens of megabytes less than Arrow's own, which it chooses at import.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if format_ == "parquet":
        from pipeline.releases.parquet_file import ParquetReleaseFile

        return ParquetReleaseFile
    from pipeline.releases.csv_file import CsvReleaseFile

    return CsvReleaseFile


class ReleaseFile:
    """A release file on disk, open for one pass; a context manager.

    `columns` are the warehouse's names, in the order in which the rows have them. `label` is the file's name in error
    messages, by default its path; `remedy` is their advice. `notes` are messages about columns that were left out.

    :raises PipelineError: here or while reading, if the file does not match the dataset's spec, is truncated or
        corrupt; the message has the file, the line if known, and the remedy.
    """

    format: ClassVar[str]
    columns: tuple[str, ...]
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
        self.label, self._remedy = label or str(path), remedy or _REMEDY
        self.release, self.source, self.dataset = release, source, release.dataset
        self._ignore_unknown_columns = ignore_unknown_columns
        self._raw = path.open("rb")
        try:
            self.bytes_read = os.fstat(self._raw.fileno()).st_size
            if not self.bytes_read:
                raise self._error("the file is empty")
            self._open()
        except BaseException:
            self._raw.close()
            raise

    def _open(self) -> None:
        """Reads the beginning of the file and sets `columns`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def survey(self) -> Counter[str | None]:
        """Reads the whole file and counts its rows by the month of the event time.

        The month is empty if it is unknown, and None if files of the dataset have none.
        """
        raise NotImplementedError

    def describe_wrong_month(self, rows_by_month: Counter[str | None]) -> str | None:
        """Returns a message if too few of the surveyed rows are in the release's month, otherwise None."""
        month = format_month(self.release.month) if self.release.month else None
        rows = rows_by_month.total()
        if None in rows_by_month or rows_by_month[month] >= rows * self.dataset.month_share:
            return None
        fullest = next((f", {count:,} in {name}" for name, count in rows_by_month.most_common() if name), "")
        return f"{rows_by_month[month]:,} of {rows:,} rows lie in {month}{fullest}"

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file as stored, in hexadecimal; to be asked for after the last row."""
        self._raw.seek(0)
        return hashlib.file_digest(self._raw, "sha256").hexdigest()

    def _error(self, problem: str, place: str = "") -> PipelineError:
        return PipelineError(f"{self.label}{place}: {problem}; {self._remedy}")

    def _match(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Returns the warehouse's name of each column of the file, the same name if it is not declared; and problems.

        Problems are columns that the file must have and lacks, and those that it repeats.
        """
        declared = {alias.lower(): c.name for c in self.dataset.columns for alias in (c.source_name, *c.aliases)}
        found = [declared.get(name.lower(), name) for name in names]
        expected = self.dataset.columns_of(self.release.month, self.source)
        missing = [f"lacks {column.source_name}" for column in expected if column.name not in found]
        repeated = [f"repeats {shown_name(name)}" for i, name in enumerate(names) if found[i] in found[:i]]
        return found, missing + repeated

    def _undeclared_column_error(self, name: str, kind: str | None, found: str) -> PipelineError:
        """Returns the error for an undeclared column that has values; it includes the line to add to the spec.

        `kind` is a key of `TYPES`, or None if no spec can declare a column of that type.
        """
        problem = f"{self.label}: the column {shown_name(name)} is not declared and {found}"
        ignore = (
            "leave such columns out with [source] ignore_unknown_columns = true"
            " (PIPELINE__SOURCE__IGNORE_UNKNOWN_COLUMNS=true)"
        )
        if kind is None or name.lower() in RESERVED_COLUMNS:
            what = "type" if kind is None else "name"
            return PipelineError(f"{problem}; a spec cannot declare such a {what}, so {ignore}")
        if not COLUMN_NAME.fullmatch(name):
            declare = f"declare it in {self.dataset.spec_file} by a name of your own, with this one in `aliases`"
            return PipelineError(f"{problem}; {declare}, or {ignore}")
        postgres, bigquery = TYPES[kind]
        since = f" since: {format_month(self.release.month)}," if self.release.month else ""
        line = f'- {{name: {name}, postgres: {postgres}, bigquery: {bigquery},{since} description: "…"}}'
        return PipelineError(f"{problem}; add the line `{line}` to {self.dataset.spec_file}, or {ignore}")


def first_problems(problems: list[str]) -> str:
    """Returns a text with the first problems and the number of the others."""
    more = f" and has {counted(len(problems) - _SHOWN_PROBLEMS, 'more problem')}" if problems[_SHOWN_PROBLEMS:] else ""
    return ", ".join(problems[:_SHOWN_PROBLEMS]) + more


def shown_name(name: str) -> str:
    """Returns a column's name as messages quote it: on one line, whatever is in it, and not too long."""
    return repr(shortened(name, _SHOWN_CHARACTERS))


def dropped_column_note(name: str, values: int) -> str:
    """Returns the message about a column that was left out."""
    holds = f"its {values:,} values were ignored" if values else "it has no values"
    return f"the column {shown_name(name)} is not declared and was left out: {holds}"
