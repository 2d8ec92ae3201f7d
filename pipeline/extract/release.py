"""Extracts one release: from the source to a verified file, in one atomic step."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.datasets import DatasetSpec, format_month
from pipeline.datasets.release_file import ReleaseFile
from pipeline.errors import PipelineError
from pipeline.extract.download import FileNotPublished, HttpOptions, download, validator_file
from pipeline.progress import Progress


@dataclass(frozen=True)
class ExtractedFile:
    """What is known of an extracted file; kept beside it as `<file>.json`."""

    source_url: str
    bytes: int
    sha256: str
    rows: int
    extracted_at: str

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
    spec: DatasetSpec,
    month: datetime.date | None,
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
    url = source_url(base_url, spec.source_path(month))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file):
            if not replace and file.exists() and (facts := ExtractedFile.read(file)):
                return facts
            part = _part(file)
            _fetch(url, part, spec, month, options, progress)
            facts = _verify(part, spec, url)
            ExtractedFile.facts_path(file).write_text(json.dumps(asdict(facts), indent=2) + "\n")
            part.replace(file)
            return facts
    except OSError as error:
        raise PipelineError(
            f"{error.filename or file}: {error.strerror}; make room or change [storage] root"
        ) from error


def remove_extracted(file: Path) -> bool:
    """Removes an extracted file, its facts and what a broken download left; says whether there was a file."""
    existed = file.exists()
    for leftover in (file, ExtractedFile.facts_path(file), _part(file), validator_file(_part(file))):
        leftover.unlink(missing_ok=True)
    return existed


def source_url(base_url: str, path: str) -> str:
    """Where a file lies below the base, which is an http(s) URL, a file URL or a folder."""
    return f"{base_url.rstrip('/')}/{path}"


def _fetch(
    url: str, part: Path, spec: DatasetSpec, month: datetime.date | None, options: HttpOptions, progress: Progress
) -> None:
    parts = urlsplit(url)
    try:
        if parts.scheme in ("http", "https"):
            download(url, part, options, progress)
        elif parts.scheme == "file":
            _copy(Path(unquote(parts.path)), part)
        elif "://" in url:
            raise PipelineError(f"{url}: [source] base_url must be an http(s) URL, a file URL or a folder")
        else:
            _copy(Path(url).expanduser(), part)
    except FileNotPublished:
        what = f"{spec.name} {format_month(month)}" if month else spec.name
        months = f"; months known to be published: {spec.published_months()}" if month else ""
        raise PipelineError(f"{what} does not exist at {url}{months}") from None


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".part")


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise FileNotPublished
    shutil.copyfile(source, part)


def _verify(part: Path, spec: DatasetSpec, url: str) -> ExtractedFile:
    try:
        with ReleaseFile(part, spec, label=url) as release:
            rows = sum(block.rows for block in release.blocks())
            now = datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
            facts = ExtractedFile(url, release.bytes_read, release.sha256, rows, now)
        if not rows:
            raise PipelineError(f"{url}: the file has a header but no rows")
    except PipelineError:
        part.unlink(missing_ok=True)
        raise
    return facts


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keeps two processes from writing the same file; the kernel drops the lock of a killed one."""
    locks = file.parent / ".locks"
    locks.mkdir(exist_ok=True)
    with (locks / file.name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
