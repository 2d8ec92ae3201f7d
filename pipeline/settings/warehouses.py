"""Settings of the warehouses."""

from __future__ import annotations

import re

import luigi

from pipeline.errors import PipelineError
from pipeline.settings.files import storage
from pipeline.settings.section import Section
from pipeline.warehouses.gcp import GcpProject
from pipeline.warehouses.postgres import PostgresDatabase


class postgres(Section):
    """Which PostgreSQL to load."""

    dsn: str = luigi.Parameter(
        default="",
        significant=False,
        description="a libpq URL or key=value string; empty: the embedded PostgreSQL below [storage] root",
    )
    schema: str = luigi.Parameter(default="public", description="the schema to work in; created if missing")
    copy_streams: int = luigi.IntParameter(default=2, description="COPY streams a load, each a connection")
    idle_minutes: float = luigi.FloatParameter(
        default=15, description="minutes after its last use when the embedded server stops itself; 0: never"
    )

    def database(self) -> PostgresDatabase:
        """The configured database; the embedded one is started if it does not run."""
        dsn = self.dsn
        if not dsn:
            from pipeline.warehouses.postgres.embedded import ensure_running

            dsn = ensure_running(storage().postgres_folder(), self.idle_minutes)
        return PostgresDatabase(dsn, self.schema, max(1, self.copy_streams))


class gcp(Section):
    """Where in Google Cloud to work; credentials never come from here."""

    project: str = luigi.Parameter(default="", description="the Google Cloud project that pays")
    location: str = luigi.Parameter(
        default="US", description="where bucket and datasets are, for good: US, EU or a region such as europe-west2"
    )
    bucket: str = luigi.Parameter(default="", description="the Cloud Storage bucket; its name must be the world's only")
    dataset: str = luigi.Parameter(default="tlc", description="the BigQuery dataset")
    maximum_bytes_billed: int = luigi.IntParameter(
        default=20 * 10**9, description="bytes a query may bill before BigQuery refuses to run it; 0: any number"
    )

    @property
    def is_configured(self) -> bool:
        return bool(self.project and self.bucket)

    def place(self) -> GcpProject:
        """The configured project, bucket and dataset.

        :raises PipelineError: when one is not set, or cannot be a name of such a thing.
        """
        for key, known in _GCP_NAMES.items():
            value = getattr(self, key)
            if not value:
                raise PipelineError(f"[gcp] {key} is not set; set it in luigi.cfg or as PIPELINE__GCP__{key.upper()}")
            if not known.fullmatch(value):
                raise PipelineError(f"[gcp] {key}: {value!r} cannot be the name of a {key}")
        return GcpProject(self.project, self.location, self.bucket, self.dataset, max(0, self.maximum_bytes_billed))


# https://cloud.google.com/resource-manager/docs/creating-managing-projects (older ones are example.com:name),
# https://cloud.google.com/storage/docs/buckets#naming, https://cloud.google.com/bigquery/docs/datasets#dataset-naming
_GCP_NAMES = {
    "project": re.compile(r"[a-z0-9.:-]{1,80}"),
    "bucket": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
    "dataset": re.compile(r"\w{1,1000}", re.ASCII),
    "location": re.compile(r"[A-Za-z0-9-]+"),
}
