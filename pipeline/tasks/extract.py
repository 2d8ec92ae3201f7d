"""Extract: release files, verified, below `[storage] root`/raw."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import luigi
import luigi.local_target

from pipeline.datasets import DatasetSpec, spec_named
from pipeline.extract import extract_release
from pipeline.settings import source, storage
from pipeline.tasks.parameters import ReleaseMonthParameter, TaxiParameter
from pipeline.tasks.task import PipelineTask


class Extract(PipelineTask):
    """Puts a release file in place once it is complete and verified; complete when the file is there."""

    force = luigi.BoolParameter(default=False, significant=False, description="fetch it anew even if it is there")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Workers fork, so that the task is done is told by what every process sees: that the file is another one.
        self._forced_over = self._file_id() if self.force else None

    @property
    def spec(self) -> DatasetSpec:
        raise NotImplementedError

    @property
    def release_month(self) -> datetime.date | None:
        raise NotImplementedError

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(storage().raw_file(self.spec.source_path(self.release_month))))

    def complete(self) -> bool:
        found = self._file_id()
        return found is not None and found != self._forced_over

    def run(self) -> None:
        settings = source()
        with self.progress("extract", "B", "verifying") as progress:
            extracted = extract_release(
                self.spec,
                self.release_month,
                settings.base_url,
                Path(self.output().path),
                settings.http_options(),
                progress,
                replace=self.force,
            )
        self.tell(f"extracted {extracted.bytes:,} bytes, {extracted.rows:,} rows, verified")

    def _file_id(self) -> tuple[int, int] | None:
        try:
            status = Path(self.output().path).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


class ExtractTripdata(Extract):
    """A month of trip records as released."""

    taxi = TaxiParameter()
    month = ReleaseMonthParameter()

    @property
    def spec(self) -> DatasetSpec:
        return spec_named(self.taxi)

    @property
    def release_month(self) -> datetime.date | None:
        return self.month


class ExtractZones(Extract):
    """The taxi zones as released."""

    @property
    def spec(self) -> DatasetSpec:
        return spec_named("zones")

    @property
    def release_month(self) -> datetime.date | None:
        return None
