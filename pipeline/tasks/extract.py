"""Extract: release files, verified, below `[storage] root`/raw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import luigi
import luigi.local_target

from pipeline.datasets.spec import MIRROR, TLC
from pipeline.errors import PipelineError
from pipeline.extract.extraction import ExtractedFile, extract_release, extracted_file, remove_extracted
from pipeline.extract.locations import Location
from pipeline.releases import import_reader
from pipeline.settings import SourceSettings, StorageSettings
from pipeline.tasks.base import ReleaseTask, TripdataTask, ZonesTask
from pipeline.warehouses import LoadJob

_READERS: dict[str, dict[str, ReleaseTask]] = {}  # who reads a release's raw file in this run; workers fork later


class SourceParameter(luigi.ChoiceParameter[str]):
    """Which source to take a file from."""

    def __init__(self) -> None:
        super().__init__(
            choices=["", MIRROR, TLC],
            default="",
            significant=False,
            description="where to take it from, mirror or tlc; empty: [source] prefer, or else by the month",
        )


class Extract(ReleaseTask):
    """Puts a release file in place once it is complete and verified; complete when the file is there."""

    force = luigi.BoolParameter(default=False, significant=False, description="fetch it anew even if it is there")
    source = ""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Workers fork, so what every process can see decides that the task is done: the file is another one.
        self._forced_over = self._file_id() if self.force else None

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(extracted_file(self.release, self._locations(), StorageSettings().raw_folder())))

    def complete(self) -> bool:
        found = self._file_id()
        return found is not None and found != self._forced_over

    def before_fork(self) -> None:
        """Imports what reads the file: for 153 short Parquet months anew it would be most of their work."""
        import_reader(self._locations()[0].source.format)

    def run(self) -> None:
        settings = SourceSettings()
        with self.progress("extract", "B", "verifying") as progress:
            extracted = extract_release(
                self.release,
                self._locations(),
                StorageSettings().raw_folder(),
                settings.http_options(),
                progress,
                replace=self.force,
                verification=settings.verification(),
            )
        if extracted.source_url.startswith("http"):
            self.set_link(extracted.source_url)
        self.set_status(
            f"extracted {extracted.bytes:,} bytes, {extracted.rows:,} rows, verified",
            rows=extracted.rows,
            bytes=extracted.bytes,
            ratio=extracted.ratio,
        )

    def _locations(self) -> Sequence[Location]:
        return SourceSettings().locations(self.release, self.source)

    def _file_id(self) -> tuple[int, int] | None:
        try:
            status = Path(self.output().path).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


def read_by(reader: ReleaseTask, extract: Extract) -> Extract:
    """The task whose file the reader needs, which `remove_when_read` then leaves until the reader is complete."""
    _READERS.setdefault(extract.release.key, {})[reader.task_id] = reader
    return extract


def remove_when_read(reader: ReleaseTask, file: Path) -> None:
    """Removes a raw file with `[storage] keep_raw` off, once all tasks of this run that read it are complete."""
    if StorageSettings().keep_raw:
        return
    others = [task for name, task in _READERS.get(reader.release.key, {}).items() if name != reader.task_id]
    try:
        if all(task.complete() for task in others):
            remove_extracted(file)
    except PipelineError:
        return  # a warehouse does not answer, so the file may be needed


def load_job(task: ReleaseTask, file: Path, replace: bool, max_bad_rows: int = 0) -> LoadJob:
    """The job of loading, or uploading, an extracted file on behalf of a task."""
    facts, release = ExtractedFile.read(file), task.release
    named = [source for source in release.dataset.sources if facts and source.name == facts.source]
    return LoadJob(
        task_family=task.task_family,
        release=release,
        run_id=task.run_id,
        replace=replace,
        file=file,
        source_url=facts.source_url if facts else file.resolve().as_uri(),
        rows_expected=facts.rows if facts else None,
        max_bad_rows=max_bad_rows,
        source=named[0] if named else None,
        etag=facts.etag if facts else "",
        last_modified=facts.last_modified if facts else "",
        ignore_unknown_columns=SourceSettings().ignore_unknown_columns,
    )


class ExtractTripdata(TripdataTask, Extract):
    """A month of trip records as released."""

    source = SourceParameter()


class ExtractZones(ZonesTask, Extract):
    """The taxi zones as released."""
