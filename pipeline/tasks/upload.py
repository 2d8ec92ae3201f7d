"""Tasks that upload release files to Cloud Storage, and create the bucket and the datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import luigi

from pipeline.errors import PipelineError
from pipeline.parameters import SourceParameter
from pipeline.targets import Lookup
from pipeline.tasks.base import PipelineTask, ReleaseTask, TripdataTask, ZonesTask
from pipeline.tasks.extract import (
    Extract,
    ExtractTripdata,
    ExtractZones,
    load_job,
    register_reader,
    remove_after_last_read,
)
from pipeline.warehouses import object_store

if TYPE_CHECKING:
    from pipeline.warehouses.bigquery.objects import ReleaseObject


class SetupGcp(PipelineTask):
    """The bucket and the datasets; creates what is missing and leaves what is there."""

    def complete(self) -> bool:
        return not object_store().missing_resources()

    def run(self) -> None:
        for resource in object_store().create_resources():
            self.log_status(f"created {resource}")


class Upload(ReleaseTask):
    """Puts an extracted file into the bucket, uncompressed; complete when the object from the source is there."""

    requirement: ClassVar[type[Extract]]

    force = luigi.BoolParameter(
        default=False, significant=False, description="extract and upload again, replacing what is uploaded"
    )
    source = ""

    def requires(self) -> dict[str, luigi.Task]:
        return {"resources": SetupGcp(), "file": register_reader(self, self.clone(self.requirement))}

    def output(self) -> Lookup[ReleaseObject]:
        return Lookup(f"{self.release.filename} in the bucket", lambda: object_store().find_object(self.release))

    def complete(self) -> bool:
        found = self.output().find()
        if found is None or (self.source and found.source not in ("", self.source)):
            return False
        return not self.force or found.run_id == self.run_id

    def run(self) -> None:
        job = load_job(self, Path(self.input()["file"].path), self.force)
        try:
            with self.progress("upload", "B", "checking the checksum") as progress:
                uploaded = object_store().upload(job, progress)
        except FileNotFoundError as error:
            raise PipelineError(f"{error.filename} was removed before it was uploaded; run again") from error
        checksum = f"checksum {uploaded.crc32c} (CRC32C)"
        self.log_status(f"{uploaded.uri}: {uploaded.bytes:,} bytes, {checksum}", bytes=uploaded.bytes)
        if job.file:
            remove_after_last_read(self, job.file)


class UploadTripdata(TripdataTask, Upload):
    """A month of trip records in the bucket, e.g. as green_tripdata_2019-01.csv."""

    requirement = ExtractTripdata

    source = SourceParameter()


class UploadZones(ZonesTask, Upload):
    """The taxi zones in the bucket."""

    requirement = ExtractZones
