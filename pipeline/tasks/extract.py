"""Extract: release files, verified, below `[storage] root`/raw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import luigi
import luigi.local_target

from pipeline.extract.extraction import ExtractedFile, extract_release
from pipeline.settings import SourceSettings, StorageSettings
from pipeline.tasks.base import ReleaseTask, TripdataTask, ZonesTask
from pipeline.warehouses import LoadJob


class Extract(ReleaseTask):
    """Puts a release file in place once it is complete and verified; complete when the file is there."""

    force = luigi.BoolParameter(default=False, significant=False, description="fetch it anew even if it is there")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Workers fork, so that the task is done is told by what every process sees: that the file is another one.
        self._forced_over = self._file_id() if self.force else None

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(StorageSettings().raw_file(self.release.raw_path(self.release.source_named()))))

    def complete(self) -> bool:
        found = self._file_id()
        return found is not None and found != self._forced_over

    def run(self) -> None:
        settings = SourceSettings()
        with self.progress("extract", "B", "verifying") as progress:
            extracted = extract_release(
                self.release,
                settings.base_url,
                Path(self.output().path),
                settings.http_options(),
                progress,
                replace=self.force,
            )
        if extracted.source_url.startswith("http"):
            self.set_link(extracted.source_url)
        self.set_status(
            f"extracted {extracted.bytes:,} bytes, {extracted.rows:,} rows, verified",
            rows=extracted.rows,
            bytes=extracted.bytes,
            ratio=extracted.ratio,
        )

    def _file_id(self) -> tuple[int, int] | None:
        try:
            status = Path(self.output().path).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


def load_job(task: ReleaseTask, file: Path, replace: bool, max_bad_rows: int = 0) -> LoadJob:
    """The job of loading, or uploading, an extracted file on behalf of a task."""
    facts = ExtractedFile.read(file)
    return LoadJob(
        task_family=task.task_family,
        release=task.release,
        run_id=task.run_id,
        replace=replace,
        file=file,
        source_url=facts.source_url if facts else file.resolve().as_uri(),
        rows_expected=facts.rows if facts else None,
        max_bad_rows=max_bad_rows,
    )


class ExtractTripdata(TripdataTask, Extract):
    """A month of trip records as released."""


class ExtractZones(ZonesTask, Extract):
    """The taxi zones as released."""
