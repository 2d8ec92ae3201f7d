"""Release files as the publisher made them, opened by their format and read in batches."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets import Release, Source
from pipeline.releases.csv_file import CsvRelease
from pipeline.releases.csv_records import Block, Record, records

if TYPE_CHECKING:
    from pipeline.releases.parquet_file import ParquetRelease

__all__ = ["Block", "CsvRelease", "Record", "import_reader", "open_release", "records"]


def open_release(
    path: Path,
    release: Release,
    *,
    source: Source | None = None,
    label: str | None = None,
    remedy: str | None = None,
    ignore_unknown_columns: bool = False,
) -> CsvRelease | ParquetRelease:
    """The release file at `path`, open for one pass over its batches; a context manager.

    Its `format` says whether it has `blocks()` of CSV or `arrow_batches()`. `source` is where it came from; by default
    the release's first source whose files end as this one does. `label` is what messages call the file: its path,
    unless given. `remedy` is what they advise to do.

    :raises PipelineError: from here or while reading, when the file is not what the dataset's spec says, is truncated
        or corrupt; the message names the file, the line where there is one, and the remedy.
    """
    source = source or _source_of(path, release)
    if source.format == "csv":
        return CsvRelease(path, release, source, label, remedy, ignore_unknown_columns)
    import_reader(source.format)
    from pipeline.releases.parquet_file import ParquetRelease

    return ParquetRelease(path, release, source, label, remedy, ignore_unknown_columns)


def import_reader(format_: str) -> None:
    """Imports what `open_release` needs for files of that format: pyarrow, for Parquet."""
    if format_ == "parquet":
        # Arrow's buffered streams grow with a column chunk of small pages (`BufferedInputStream::Peek`). The system's
        # allocator grows them in place and keeps tens of megabytes less than Arrow's own, which it chooses at import.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        importlib.import_module("pipeline.releases.parquet_file")


def _source_of(path: Path, release: Release) -> Source:
    is_parquet = path.suffix == ".parquet"
    named = [source for source in release.sources() if (source.format == "parquet") == is_parquet]
    return named[0] if named else release.source_named()
