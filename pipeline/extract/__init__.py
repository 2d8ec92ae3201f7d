"""Extracts releases: fetches their files from a source, verifies them and puts them in place atomically."""

from __future__ import annotations

import datetime
import email.utils
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.datasets import Release
from pipeline.errors import PipelineError
from pipeline.extract.availability import check_not_blocked
from pipeline.extract.download import AccessDenied, FileNotPublished, HttpOptions, download
from pipeline.extract.locations import Location, local_path, without_credentials
from pipeline.extract.partial_download import PartialDownload
from pipeline.files import locked, storage_errors
from pipeline.progress import Progress
from pipeline.releases import open_release

logger = logging.getLogger("luigi-interface")


@dataclass(frozen=True)
class ExtractedFile:
    """Metadata of an extracted file, stored next to it as `<file>.json`. `text_bytes` is its uncompressed size.

    `source`, `format`, `etag` and `last_modified` have the same meaning as in the ledger. What is unknown is empty.
    """

    source_url: str = ""
    bytes: int = 0
    sha256: str = ""
    rows: int = 0
    extracted_at: str = ""
    text_bytes: int = 0
    source: str = ""
    format: str = ""
    etag: str = ""
    last_modified: str = ""

    @property
    def ratio(self) -> float:
        """The compression ratio, rounded to three digits; 0 if `text_bytes` is unknown."""
        return round(self.bytes / self.text_bytes, 3) if self.text_bytes else 0.0

    @staticmethod
    def metadata_path(file: Path) -> Path:
        return file.with_name(file.name + ".json")

    @classmethod
    def read(cls, file: Path) -> ExtractedFile | None:
        """Returns an extracted file's metadata, or None if a user put the file there."""
        try:
            found = cls(**json.loads(cls.metadata_path(file).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.sha256 else None


def extract_release(
    release: Release,
    locations: Sequence[Location],
    folder: Path,
    options: HttpOptions,
    progress: Progress,
    *,
    replace: bool = False,
    any_month: bool = False,
    ignore_unknown_columns: bool = False,
) -> ExtractedFile:
    """Puts the complete, verified file in place below `folder` and returns its metadata.

    Uses the first location that has the file. Verifies the length, the gzip checksum or the Parquet magic numbers and
    footer, the columns that the spec requires for the month, that there are rows, and that enough of them are in the
    month unless `any_month`. If two processes extract the same file, the second waits and finds it in place.

    :raises PipelineError: if the month is not published, the source fails, the file is invalid or the disk is full.
    """
    absent: list[str] = []
    denied: list[Location] = []
    for location in locations:
        file = folder / release.raw_path(location.source)
        try:
            with storage_errors(file), locked(file):
                metadata = ExtractedFile.read(file) if file.exists() and not replace else None
                if metadata is None:
                    part, url = _part(file), location.url(release)
                    local = local_path(url)
                    edition = _copy(local, location, part) if local else download(url, part, options, progress)
                    metadata = _verify(part, release, location, edition, any_month, ignore_unknown_columns)
                    _publish(part, file, metadata)
        except FileNotPublished as answer:
            denied += [location] if isinstance(answer, AccessDenied) else []
            absent.append(without_credentials(location.url(release)))
            continue
        for other in locations[: len(absent)]:  # these do not have the file any more, so earlier copies are outdated
            remove_extracted(folder / release.raw_path(other.source))
        return metadata
    check_not_blocked(release, denied, options)
    hint = "; check [source] base_url and tlc_base_url"
    if all(location.is_official for location in locations):
        known = release.dataset.published_months()
        hint = f"; months known to be published: {known}" if release.month else ""
    raise PipelineError(f"{release} does not exist at {' or '.join(absent)}{hint}")


def extracted_file(release: Release, locations: Sequence[Location], folder: Path) -> Path:
    """Returns the path of the release's file below `folder`, or where the first location's file would be."""
    files = [folder / release.raw_path(location.source) for location in locations]
    return next((file for file in files if file.exists()), files[0])


def remove_extracted(file: Path) -> bool:
    """Removes an extracted file, its metadata and any partial download; returns whether there was a file.

    If another process is extracting the file, waits for it.
    """
    if not file.parent.is_dir():
        return False
    with storage_errors(file), locked(file):
        existed = file.exists()
        _part(file).discard()
        file.unlink(missing_ok=True)
        ExtractedFile.metadata_path(file).unlink(missing_ok=True)
    return existed


def _part(file: Path) -> PartialDownload:
    return PartialDownload(file.with_name(file.name + ".part"))


def _copy(source: Path, location: Location, part: PartialDownload) -> tuple[str, str]:
    mirror = local_path(location.base_url)
    if mirror is None or not mirror.is_dir():
        raise PipelineError(f"{mirror}: there is no such folder; check [source] base_url and tlc_base_url")
    if not source.is_file():
        raise FileNotPublished
    part.discard()  # also removes the version file of an interrupted download
    shutil.copyfile(source, part.path)
    return "", email.utils.formatdate(source.stat().st_mtime, usegmt=True)


def _verify(
    part: PartialDownload,
    release: Release,
    location: Location,
    edition: tuple[str, str],
    any_month: bool,
    ignore_unknown_columns: bool,
) -> ExtractedFile:
    source, url = location.source, without_credentials(location.url(release))
    unknown = ignore_unknown_columns
    try:
        with open_release(
            part.path, release, source=source.name, label=url, remedy=_REMEDY, ignore_unknown_columns=unknown
        ) as file:
            rows_by_month = file.survey()
            rows, sha256 = rows_by_month.total(), file.sha256
        if not rows:
            raise PipelineError(f"{url}: the file has a header but no rows; {_REMEDY}")
        if (wrong := file.describe_wrong_month(rows_by_month)) and not any_month:
            raise PipelineError(
                f"{url}: not the file of {release}: {wrong}; {_REMEDY}, or accept it with [source] any_month = true"
                " (PIPELINE__SOURCE__ANY_MONTH=true)"
            )
    except PipelineError:
        part.discard()
        raise
    for note in file.notes:
        logger.warning("%s: %s", url, note)
    now = datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
    return ExtractedFile(url, file.bytes_read, sha256, rows, now, file.text_bytes, source.name, source.format, *edition)


def _publish(part: PartialDownload, file: Path, metadata: ExtractedFile) -> None:
    """Renames the file and its metadata; a crash never leaves a file with the metadata of another."""
    new_metadata = file.with_name(file.name + ".json.part")
    new_metadata.write_text(json.dumps(asdict(metadata), indent=2) + "\n")
    with part.path.open("rb") as written:
        os.fsync(written)  # the content must be on disk before the rename, even in case of a power failure
    ExtractedFile.metadata_path(file).unlink(missing_ok=True)
    part.path.replace(file)
    new_metadata.replace(ExtractedFile.metadata_path(file))


_REMEDY = "the download was discarded; try again later, or choose another [source] base_url"
