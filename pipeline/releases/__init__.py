"""Opens release files as the publisher made them, in any format, and reads them in batches."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets import Release, Source
from pipeline.releases.csv_file import CsvReleaseFile
from pipeline.releases.csv_records import Block, Record

if TYPE_CHECKING:
    from pipeline.releases.parquet_file import ParquetReleaseFile

__all__ = ["Block", "CsvReleaseFile", "Record", "import_reader", "open_release"]


def open_release(
    path: Path,
    release: Release,
    *,
    source: Source | None = None,
    label: str | None = None,
    remedy: str | None = None,
    ignore_unknown_columns: bool = False,
) -> CsvReleaseFile | ParquetReleaseFile:
    """Returns the release file at `path`; `ReleaseFile` says what the options mean.

    Depending on its `format`, it has `blocks()` of CSV or `arrow_batches()`. `source` is where the file came from; the
    default is the release's first source of the same format.

    :raises PipelineError: here or while reading, if the file does not match the dataset's spec, is truncated or
        corrupt; the message has the file, the line if known, and the remedy.
    """
    if source is None:
        is_parquet = path.suffix == ".parquet"
        matching = [each for each in release.sources() if (each.format == "parquet") == is_parquet]
        source = matching[0] if matching else release.source_named()
    reader: type[CsvReleaseFile | ParquetReleaseFile] = CsvReleaseFile
    if source.format == "parquet":
        import_reader(source.format)
        from pipeline.releases.parquet_file import ParquetReleaseFile as reader
    return reader(path, release, source, label, remedy, ignore_unknown_columns)


def import_reader(format_: str) -> None:
    """Imports the modules that `open_release` needs for files of that format."""
    if format_ == "parquet":
        # Arrow's buffered streams grow with a column chunk of small pages (`BufferedInputStream::Peek`). The system's
        # allocator grows them in place and keeps tens of megabytes less than Arrow's own, which it chooses at import.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        importlib.import_module("pipeline.releases.parquet_file")
