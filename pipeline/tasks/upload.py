"""Upload: release files as objects in Cloud Storage."""

from __future__ import annotations

from pathlib import Path

import luigi

from pipeline.extract import ExtractedFile
from pipeline.settings import gcp
from pipeline.targets import GcsTarget
from pipeline.tasks.extract import Extract, ExtractTripdata, ExtractZones
from pipeline.tasks.gcp_setup import SetupGcp
from pipeline.tasks.releases import ReleaseTask, TripdataTask, ZonesTask


class Upload(ReleaseTask):
    """Puts an extracted file into the bucket, uncompressed; complete when the object is there."""

    force = luigi.BoolParameter(
        default=False, significant=False, description="extract and upload again, in the place of what is there"
    )

    def extract(self) -> Extract:
        """The task that brings the file."""
        raise NotImplementedError

    def requires(self) -> dict[str, luigi.Task]:
        return {"place": SetupGcp(), "file": self.extract()}

    def output(self) -> GcsTarget:
        return GcsTarget(self.spec.filename(self.release_month))

    def complete(self) -> bool:
        found = self.output().found()
        return found is not None and (not self.force or found.uploaded_at >= self.asked_at)

    def run(self) -> None:
        from pipeline.warehouses.gcp.objects import UploadJob, upload

        file = Path(self.input()["file"].path)
        facts = ExtractedFile.read(file)
        job = UploadJob(
            spec=self.spec,
            month=self.release_month,
            file=file,
            source_url=facts.source_url if facts else file.resolve().as_uri(),
            rows=facts.rows if facts else None,
            replace=self.force,
        )
        with self.progress("upload", "B", "checking the checksum") as progress:
            uploaded = upload(gcp().place(), job, progress)
        checksum = f"checksum {uploaded.crc32c} (CRC32C)"
        self.announce(f"{uploaded.uri}: {uploaded.bytes:,} bytes, {checksum}", bytes=uploaded.bytes)


class UploadTripdata(TripdataTask, Upload):
    """A month of trip records in the bucket, e.g. as green_tripdata_2019-01.csv."""

    def extract(self) -> Extract:
        return ExtractTripdata(taxi=self.taxi, month=self.month, force=self.force)


class UploadZones(ZonesTask, Upload):
    """The taxi zones in the bucket."""

    def extract(self) -> Extract:
        return ExtractZones(force=self.force)
