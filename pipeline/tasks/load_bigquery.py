"""Load: objects in Cloud Storage into BigQuery, each with its marker."""

from __future__ import annotations

from pipeline.settings import gcp
from pipeline.targets import BigQueryMarker
from pipeline.tasks.load import LoadTask, tell_of_load
from pipeline.tasks.releases import TripdataTask, ZonesTask
from pipeline.tasks.upload import Upload, UploadTripdata, UploadZones


class LoadToBigQuery(LoadTask):
    """Loads an uploaded file into BigQuery."""

    # How many run at a time over all workers is `[resources] bigquery`.
    resources = {"bigquery": 1}  # noqa: RUF012 - Luigi's own name and type

    def requires(self) -> Upload:
        raise NotImplementedError

    def output(self) -> BigQueryMarker:
        return BigQueryMarker(self.task_family, self.spec, self.release_month)

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
