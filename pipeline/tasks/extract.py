"""Extract: release files, verified, below `[storage] root`/raw."""

from __future__ import annotations

import datetime
from pathlib import Path

import luigi
import luigi.local_target

from pipeline.datasets import DatasetSpec, monthly_names, spec_named
from pipeline.extract import extract_release
from pipeline.settings import source, storage
from pipeline.tasks.task import PipelineTask


class Extract(PipelineTask):
    """Puts a release file in place once it is complete and verified; complete when the file is there."""

    force = luigi.BoolParameter(default=False, significant=False, description="fetch it anew even if it is there")
    _done = False

    @property
    def spec(self) -> DatasetSpec:
        raise NotImplementedError

    @property
    def release_month(self) -> datetime.date | None:
        raise NotImplementedError

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(storage().raw_file(self.spec.source_path(self.release_month))))

    def complete(self) -> bool:
        return (self._done or not self.force) and bool(self.output().exists())

    def run(self) -> None:
        settings = source()
        with self.progress("extract", "B") as progress:
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
        self._done = True


class ExtractTripdata(Extract):
    """A month of trip records as released."""

    taxi = luigi.ChoiceParameter(choices=monthly_names(), description="which dataset")
    month = luigi.MonthParameter(description="which month, such as 2019-01")

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
