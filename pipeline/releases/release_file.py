"""What release files of all formats have in common: how they are opened, their columns, and a survey of their rows."""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pipeline.datasets import Release, Source, format_month
from pipeline.datasets.spec import COLUMN_NAME, RESERVED_COLUMNS
from pipeline.errors import PipelineError, shortened

# The PostgreSQL and BigQuery types to declare for each kind of values.
TYPES = {
    "text": ("text", "STRING"),
    "integer": ("bigint", "INT64"),
    "number": ("double precision", "NUMERIC"),
    "boolean": ("boolean", "BOOL"),
    "time": ("timestamp", "TIMESTAMP"),
    "date": ("date", "DATE"),
}
_REMEDY = "if it is complete at its source, remove this copy with `pipeline forget` and run again"
_SHOWN_PROBLEMS = 12
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Survey:
    """Row counts of a file: in total, and by the month of the event time (such as `2020-04`), None if unknown."""

    rows: int
    months: Counter[str] | None = None

    def describe_wrong_month(self, release: Release) -> str | None:
        """Returns a message if too few rows are in the release's month, otherwise None."""
        if not release.month or self.months is None:
            return None
        month = format_month(release.month)
        if self.months[month] >= self.rows * release.dataset.month_share:
            return None
        fullest = "".join(f", {rows:,} in {name}" for name, rows in self.months.most_common(1))
        return f"{self.months[month]:,} of {self.rows:,} rows lie in {month}{fullest}"


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

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file as stored, in hexadecimal; to be asked for after the last row."""
        self._raw.seek(0)
        return hashlib.file_digest(self._raw, "sha256").hexdigest()

    def _error(self, problem: str, place: str = "") -> PipelineError:
        return PipelineError(f"{self.label}{place}: {problem}; {self._remedy}")

    def _declared_names(self) -> dict[str, str]:
        """Returns the warehouse's name of each column by its names in files, in lower case."""
        return {alias.lower(): c.name for c in self.dataset.columns for alias in (c.source_name, *c.aliases)}

    def _missing(self, found: Collection[str]) -> list[str]:
        """Returns a problem for each column that the file must have and does not."""
        expected = self.dataset.columns_of(self.release.month, self.source)
        return [f"lacks {column.source_name}" for column in expected if column.name not in found]

    def _undeclared_column_error(self, name: str, kind: str | None, found: str) -> PipelineError:
        """Returns the error for an undeclared column that has values; it includes the line to add to the spec.

        `kind` is a key of `TYPES`, or None if no spec can declare a column of that type.
        """
        problem = f"{self.label}: the column {shown_name(name)} is not declared and {found}"
        ignore = (
            "leave such columns out with [source] ignore_unknown_columns = true"
            " (PIPELINE__SOURCE__IGNORE_UNKNOWN_COLUMNS=true)"
        )
        is_name = COLUMN_NAME.fullmatch(name) and name.lower() not in RESERVED_COLUMNS
        if kind is None or not is_name:
            return PipelineError(
                f"{problem}; a spec cannot declare such a {'type' if is_name else 'name'}, so {ignore}"
            )
        postgres, bigquery = TYPES[kind]
        since = f" since: {format_month(self.release.month)}," if self.release.month else ""
        line = f'- {{name: {name}, postgres: {postgres}, bigquery: {bigquery},{since} description: "…"}}'
        return PipelineError(
            f"{problem}; add the line `{line}` to pipeline/datasets/{self.dataset.name}.yaml, or {ignore}"
        )


def listed(problems: list[str]) -> str:
    """Returns a text with the first problems and the number of the others."""
    more = f" and has {len(problems) - _SHOWN_PROBLEMS} more problems" if problems[_SHOWN_PROBLEMS:] else ""
    return ", ".join(problems[:_SHOWN_PROBLEMS]) + more


def shown_name(name: str) -> str:
    """Returns a column's name as messages quote it: on one line, whatever is in it, and not too long."""
    return repr(shortened(name, _SHOWN_CHARACTERS))


def dropped_column_note(name: str, values: int) -> str:
    """Returns the message about a column that was left out."""
    holds = f"its {values:,} values were ignored" if values else "it has no values"
    return f"the column {shown_name(name)} is not declared and was left out: {holds}"
