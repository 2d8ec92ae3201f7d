"""Tasks that extract verified release files into `[storage] root`/raw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import luigi
import luigi.local_target

from pipeline.errors import PipelineError, counted
from pipeline.extract import ExtractedFile, extract_release, extracted_file, remove_extracted
from pipeline.extract.locations import Location
from pipeline.parameters import SourceParameter
from pipeline.releases import reader_of
from pipeline.settings import SourceSettings, StorageSettings
from pipeline.tasks.base import ReleaseTask, TripdataTask, ZonesTask
from pipeline.warehouses import LoadJob

# The tasks of this run that read a release's raw file, by key and task id; filled before workers fork.
_READERS: dict[str, dict[str, ReleaseTask]] = {}


class Extract(ReleaseTask):
    """Puts a release file in place once it is complete and verified; complete when the file is there."""

    force = luigi.BoolParameter(
        default=False, significant=False, description="download the file again even if it exists"
    )
    source = ""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # With `force`, the task is complete when the file has changed, which all worker processes can see.
        self._replaced_file_id = self._file_id() if self.force else None

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(extracted_file(self.release, self._locations(), StorageSettings().raw_folder())))

    def complete(self) -> bool:
        found = self._file_id()
        return found is not None and found != self._replaced_file_id

    def before_fork(self) -> None:
        """Imports the reader once instead of in each worker, where it would dominate the time for small files."""
        reader_of(self._locations()[0].source.format)

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
                any_month=settings.any_month,
                ignore_unknown_columns=settings.ignore_unknown_columns,
            )
        if extracted.source_url.startswith("http"):
            self.set_link(extracted.source_url)
        self.set_status(
            f"extracted {counted(extracted.bytes, 'byte')}, {counted(extracted.rows, 'row')}, verified",
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


def register_reader(reader: ReleaseTask, extract: Extract) -> Extract:
    """Returns the extract task; `remove_after_last_read` keeps its file until the reader is complete."""
    _READERS.setdefault(extract.release.key, {})[reader.task_id] = reader
    return extract


def remove_after_last_read(reader: ReleaseTask, file: Path) -> None:
    """If `[storage] keep_raw` is off, removes a raw file after all tasks of this run that read it are complete."""
    if StorageSettings().keep_raw:
        return
    others = [task for name, task in _READERS.get(reader.release.key, {}).items() if name != reader.task_id]
    try:
        if all(task.complete() for task in others):
            remove_extracted(file)
    except PipelineError:
        return  # a warehouse does not answer, so the file may still be needed


def load_job(task: ReleaseTask, file: Path, replace: bool, max_bad_rows: int = 0) -> LoadJob:
    """Returns the job to load or upload an extracted file for a task."""
    return LoadJob(
        task_family=task.task_family,
        release=task.release,
        run_id=task.run_id,
        replace=replace,
        file=file,
        extracted=ExtractedFile.read(file) or ExtractedFile(source_url=file.resolve().as_uri()),
        max_bad_rows=max_bad_rows,
        ignore_unknown_columns=SourceSettings().ignore_unknown_columns,
    )


class ExtractTripdata(TripdataTask, Extract):
    """A month of trip records as released."""

    source = SourceParameter()


class ExtractZones(ZonesTask, Extract):
    """The taxi zones as released."""
