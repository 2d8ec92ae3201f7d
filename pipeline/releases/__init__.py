"""Release files as the publisher made them, opened by their format and read in batches."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets import Release, Source
from pipeline.releases.csv_file import CsvRelease
from pipeline.releases.csv_records import Block, Record, records

__all__ = ["Block", "CsvRelease", "Record", "open_release", "records"]


def open_release(
    path: Path,
    release: Release,
    *,
    source: Source | None = None,
    label: str | None = None,
    remedy: str | None = None,
) -> CsvRelease:
    """The release file at `path`, open for one pass over its batches; a context manager.

    `source` is where it came from; by default the release's first source whose files are named as this one is.
    `label` is what messages call the file: its path, unless given. `remedy` is what they advise to do.

    :raises PipelineError: from here or while reading, when the file is not what the dataset's spec says, is truncated
        or corrupt; the message names the file, the line where there is one, and the remedy.
    """
    return CsvRelease(path, release, source or release.source_named(), label, remedy)
