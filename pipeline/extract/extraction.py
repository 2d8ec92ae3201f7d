"""Extracts one release: from the source to a verified file, in one atomic step."""

from __future__ import annotations

import datetime
import email.utils
import errno
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
from pipeline.files import locked
from pipeline.progress import Progress
from pipeline.releases import open_release

logger = logging.getLogger("luigi-interface")

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class ExtractedFile:
    """What is known of an extracted file; kept beside it as `<file>.json`. `text_bytes` is its size as plain text.

    `source`, `format`, `etag` and `last_modified` are as the ledger has them.
    """

    source_url: str
    bytes: int
    sha256: str
    rows: int
    extracted_at: str
    text_bytes: int = 0
    source: str = ""
    format: str = ""
    etag: str = ""
    last_modified: str = ""

    @property
    def ratio(self) -> float:
        """Its bytes for each byte of text, to three digits; 0 where an earlier version has not counted those."""
        return round(self.bytes / self.text_bytes, 3) if self.text_bytes else 0.0

    @staticmethod
    def facts_path(file: Path) -> Path:
        return file.with_name(file.name + ".json")

    @classmethod
    def read(cls, file: Path) -> ExtractedFile | None:
        """The facts kept beside an extracted file, or None when somebody put the file there by hand."""
        try:
            return cls(**json.loads(cls.facts_path(file).read_text()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Allowances:
    """What an extracted file is forgiven: rows of any month, and columns that the spec does not declare."""

    any_month: bool = False
    ignore_unknown_columns: bool = False


def extract_release(
    release: Release,
    locations: Sequence[Location],
    folder: Path,
    options: HttpOptions,
    progress: Progress,
    *,
    replace: bool = False,
    allowances: Allowances = Allowances(),
) -> ExtractedFile:
    """Returns only after the file is in place below `folder`, complete and verified; until then nothing is there.

    The first of the locations that has the file is its source. Verified means: as long as announced, the gzip checksum
    right or both ends and the footer of Parquet, the columns the spec's for that month, at least one row, and enough
    rows of the month. Of two processes that extract the same file, one does and the other waits and finds it done.

    :raises PipelineError: when the month is not published, the source fails, the file is wrong or the disk is full.
    """
    absent: list[str] = []
    denied: list[Location] = []
    for location in locations:
        file = folder / release.raw_path(location.source)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with locked(file):
                if not replace and file.exists() and (facts := ExtractedFile.read(file)):
                    return facts
                facts = _extract(release, location, file, options, progress, allowances)
        except (FileNotPublished, AccessDenied) as answer:
            denied += [location] if isinstance(answer, AccessDenied) else []
            absent.append(without_credentials(location.url(release)))
            continue
        except OSError as error:
            remedy = "make room" if error.errno in _DISK_FULL else "fix that"
            where = error.filename2 or error.filename or file
            raise PipelineError(f"{where}: {error.strerror}; {remedy}, or change [storage] root") from error
        for other in locations[: len(absent)]:  # they have no such file, so an earlier copy is not what they have
            remove_extracted(folder / release.raw_path(other.source))
        return facts
    check_not_blocked(release, denied, options)
    hint = "; check --source-base-url and --source-tlc-base-url"
    if all(location.is_publishers for location in locations):
        known = release.dataset.published_months()
        hint = f"; months known to be published: {known}" if release.month else ""
    raise PipelineError(f"{release} does not exist at {' or '.join(absent)}{hint}")


def extracted_file(release: Release, locations: Sequence[Location], folder: Path) -> Path:
    """Where the release's file is below `folder`, or would be put first of all."""
    files = [folder / release.raw_path(location.source) for location in locations]
    return next((file for file in files if file.exists()), files[0])


def remove_extracted(file: Path) -> bool:
    """Removes an extracted file, its facts and what a broken download left; says whether there was a file."""
    existed = file.exists()
    _part(file).discard()
    file.unlink(missing_ok=True)
    ExtractedFile.facts_path(file).unlink(missing_ok=True)
    return existed


def _extract(
    release: Release, location: Location, file: Path, options: HttpOptions, progress: Progress, allowances: Allowances
) -> ExtractedFile:
    part, url = _part(file), location.url(release)
    if (local := local_path(url)) is not None:
        edition = _copy(local, location, part)
    else:
        edition = download(url, part, options, progress)
    facts = _verify(part, release, location, edition, allowances)
    _put_in_place(part, file, facts)
    return facts


def _part(file: Path) -> PartialDownload:
    return PartialDownload(file.with_name(file.name + ".part"))


def _copy(source: Path, location: Location, part: PartialDownload) -> tuple[str, str]:
    mirror = location.folder()
    if mirror is None or not mirror.is_dir():
        raise PipelineError(f"{mirror}: there is no such folder; check --source-base-url and --source-tlc-base-url")
    if not source.is_file():
        raise FileNotPublished
    part.discard()  # with its note: these bytes are not of the version that was being downloaded
    shutil.copyfile(source, part.path)
    return "", email.utils.formatdate(source.stat().st_mtime, usegmt=True)


def _verify(
    part: PartialDownload, release: Release, location: Location, edition: tuple[str, str], allowances: Allowances
) -> ExtractedFile:
    url = without_credentials(location.url(release))
    try:
        with open_release(
            part.path,
            release,
            source=location.source,
            label=url,
            remedy=_REMEDY,
            ignore_unknown_columns=allowances.ignore_unknown_columns,
        ) as file:
            found = file.survey()
            now = datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
            facts = ExtractedFile(
                url,
                file.bytes_read,
                file.sha256,
                found.rows,
                now,
                file.text_bytes,
                location.source.name,
                location.source.format,
                *edition,
            )
        if not found.rows:
            raise PipelineError(f"{url}: the file has a header but no rows; {_REMEDY}")
        if (wrong := found.describe_wrong_month(release)) and not allowances.any_month:
            raise PipelineError(
                f"{url}: not the file of {release}, as {wrong}; {_REMEDY}, or take it as it is with"
                " --source-any-month true"
            )
        for note in file.notes:
            logger.warning("%s: %s", url, note)
    except PipelineError:
        part.discard()
        raise
    return facts


def _put_in_place(part: PartialDownload, file: Path, facts: ExtractedFile) -> None:
    """Killed at any moment, this leaves no file beside another file's facts."""
    new_facts = file.with_name(file.name + ".json.part")
    new_facts.write_text(json.dumps(asdict(facts), indent=2) + "\n")
    with part.path.open("rb") as written:
        os.fsync(written)  # the name must not outlive the bytes, whatever happens to the power
    ExtractedFile.facts_path(file).unlink(missing_ok=True)
    part.path.replace(file)
    new_facts.replace(ExtractedFile.facts_path(file))


_REMEDY = "nothing was kept of it; try again later, or name another source with --source-base-url"
