"""Load: objects in Cloud Storage into BigQuery, each with its marker."""

from __future__ import annotations

import luigi

from pipeline.settings import gcp
from pipeline.targets import BigQueryMarker
from pipeline.tasks.load import tell_of_load
from pipeline.tasks.releases import ReleaseTask, TripdataTask, ZonesTask
from pipeline.tasks.upload import Upload, UploadTripdata, UploadZones


class LoadToBigQuery(ReleaseTask):
    """Loads an uploaded file, wholly or not at all; complete when its marker says that it is finished."""

    # How many run at a time over all workers is `[resources] bigquery`.
    resources = {"bigquery": 1}  # noqa: RUF012 - Luigi's own name and type
    priority = 1  # before what is built from several loads

    force = luigi.BoolParameter(
        default=False, significant=False, description="extract, upload and load again, in the place of what is loaded"
    )

    def requires(self) -> Upload:
        raise NotImplementedError

    def output(self) -> BigQueryMarker:
        return BigQueryMarker(self.task_family, self.spec, self.release_month)

    def complete(self) -> bool:
        entry = self.output().entry()
        return entry is not None and (not self.force or entry.started_at >= self.asked_at)

    def run(self) -> None:
        from pipeline.warehouses.gcp.jobs import JobObserver
        from pipeline.warehouses.gcp.loading import GcpLoadJob, load

        since = self.asked_at if self.force else None
        job = GcpLoadJob(self.task_family, self.spec, self.release_month, since)
        tell_of_load(self, load(gcp().place(), job, JobObserver(self.tell, self.track)))


class LoadTripdataToBigQuery(TripdataTask, LoadToBigQuery):
    """A month of trip records in its BigQuery table, e.g. green_tripdata."""

    def requires(self) -> Upload:
        return UploadTripdata(taxi=self.taxi, month=self.month, force=self.force)


class LoadZonesToBigQuery(ZonesTask, LoadToBigQuery):
    """The taxi zones in BigQuery's taxi_zone_lookup."""

    def requires(self) -> Upload:
        return UploadZones(force=self.force)
