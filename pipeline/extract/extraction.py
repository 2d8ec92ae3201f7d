"""Extracts one release: from the source to a verified file, in one atomic step."""

from __future__ import annotations

import datetime
import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from pipeline.datasets import Release
from pipeline.errors import PipelineError
from pipeline.extract.download import FileNotPublished, HttpOptions, download, without_credentials
from pipeline.extract.partial_download import PartialDownload
from pipeline.files import locked
from pipeline.progress import Progress
from pipeline.releases import open_release

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class ExtractedFile:
    """What is known of an extracted file; kept beside it as `<file>.json`. `text_bytes` is its size as plain text."""

    source_url: str
    bytes: int
    sha256: str
    rows: int
    extracted_at: str
    text_bytes: int = 0

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


def extract_release(
    release: Release,
    base_url: str,
    file: Path,
    options: HttpOptions,
    progress: Progress,
    replace: bool = False,
) -> ExtractedFile:
    """Returns only after `file` is in place, complete and verified; until then nothing stands under that name.

    Verified means: as long as announced, the gzip checksum right, the header the spec's, at least one row. Of two
    processes that extract the same file, one does and the other waits and finds it done.

    :raises PipelineError: when the month is not published, the source fails, the file is wrong or the disk is full.
    """
    path = release.path_in(release.source_named())
    url = source_url(base_url, path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file):
            if not replace and file.exists() and (facts := ExtractedFile.read(file)):
                return facts
            part = _part(file)
            _fetch(url, path.count("/"), part, release, options, progress)
            facts = _verify(part, release, without_credentials(url))
            _put_in_place(part, file, facts)
            return facts
    except OSError as error:
        remedy = "make room" if error.errno in _DISK_FULL else "fix that"
        where = error.filename2 or error.filename or file
        raise PipelineError(f"{where}: {error.strerror}; {remedy}, or change [storage] root") from error


def remove_extracted(file: Path) -> bool:
    """Removes an extracted file, its facts and what a broken download left; says whether there was a file."""
    existed = file.exists()
    _part(file).discard()
    file.unlink(missing_ok=True)
    ExtractedFile.facts_path(file).unlink(missing_ok=True)
    return existed


def source_url(base_url: str, path: str) -> str:
    """Where a file lies below the base, which is an http(s) URL, a file URL or a folder."""
    return f"{base_url.rstrip('/')}/{path}"


def _fetch(
    url: str, depth: int, part: PartialDownload, release: Release, options: HttpOptions, progress: Progress
) -> None:
    try:
        if local := local_path(url):
            _copy(local, local.parents[depth], part)
        else:
            download(url, part, options, progress)
    except FileNotPublished:
        known = release.dataset.published_months()
        months = f"; months known to be published: {known}" if release.month else ""
        raise PipelineError(f"{release} does not exist at {without_credentials(url)}{months}") from None


def local_path(url: str) -> Path | None:
    """The path that a file URL or a plain path stands for; None for what is fetched over HTTP."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return Path(url).expanduser()
    if scheme.lower() in ("http", "https"):
        return None
    if scheme.lower() != "file":
        raise PipelineError(
            f"{without_credentials(url)}: [source] base_url must be an http(s) URL, a file URL or a folder"
        )
    host, slash, path = url[len("file://") :].partition("/")
    if host not in ("", "localhost"):
        raise PipelineError(f"{url}: {host} would be a host; write file:/// and then the path, in [source] base_url")
    return Path(unquote(slash + path))


def _part(file: Path) -> PartialDownload:
    return PartialDownload(file.with_name(file.name + ".part"))


def _copy(source: Path, mirror: Path, part: PartialDownload) -> None:
    if not mirror.is_dir():
        raise PipelineError(f"{mirror}: there is no such folder; check --source-base-url")
    if not source.is_file():
        raise FileNotPublished
    part.discard()  # with its note: these bytes are not of the version that was being downloaded
    shutil.copyfile(source, part.path)


def _verify(part: PartialDownload, release: Release, url: str) -> ExtractedFile:
    try:
        with open_release(part.path, release, label=url, remedy=_REMEDY) as file:
            found = file.survey()
            now = datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
            facts = ExtractedFile(url, file.bytes_read, file.sha256, found.rows, now, file.text_bytes)
        if not found.rows:
            raise PipelineError(f"{url}: the file has a header but no rows; {_REMEDY}")
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
