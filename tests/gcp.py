"""Google Cloud for tests: starts the emulators in this process, and gives tests access to what they hold."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.api_core.retry import retry_base, retry_unary

from pipeline.warehouses.bigquery import jobs
from pipeline.warehouses.bigquery.client import GoogleProject

if TYPE_CHECKING:
    import pytest
    from gcp_emulator.bigquery import Emulator
    from gcp_emulator.wire import Wire


@dataclass(frozen=True)
class Emulators:
    """Running emulators of Cloud Storage and BigQuery; `wire` has their requests and the faults injected into them."""

    storage_url: str
    bigquery_url: str
    bigquery: Emulator
    wire: Wire

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that direct Google's libraries to the emulators."""
        return {"STORAGE_EMULATOR_HOST": self.storage_url, "BIGQUERY_EMULATOR_HOST": self.bigquery_url}


@contextlib.contextmanager
def emulators() -> Iterator[Emulators]:
    """Runs both emulators on free ports until the block ends.

    The first start on a machine compiles Google's analyzer, which takes 20 s.
    """
    from gcp_emulator import bigquery, storage

    storage_server, storage_url = storage.start()
    bigquery_server, bigquery_url, emulator = bigquery.start(storage_url, storage.wire)
    try:
        yield Emulators(storage_url, bigquery_url, emulator, storage.wire)
    finally:
        bigquery_server.shutdown()
        bigquery_server.server_close()
        emulator.main.close()
        storage_server.stop()


@dataclass(frozen=True)
class GoogleCloud:
    """A bucket and dataset of one test, not yet created: on the emulators, or on Google's servers if there are none."""

    emulators: Emulators | None
    project: GoogleProject

    @property
    def wire(self) -> Wire:
        assert self.emulators
        return self.emulators.wire

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which the pipeline's commands work in this project."""
        settings = {
            "PROJECT": self.project.project,
            "LOCATION": self.project.location,
            "BUCKET": self.project.bucket,
            "DATASET": self.project.dataset,
        }
        emulated = self.emulators.environment if self.emulators else {}
        return emulated | {f"PIPELINE__GCP__{key}": value for key, value in settings.items()}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, in order. Tables may be named without project and dataset."""
        from google.cloud.bigquery import QueryJobConfig

        with contextlib.closing(self.project.bigquery()) as client:
            config = QueryJobConfig(default_dataset=f"{self.project.project}.{self.project.dataset}")
            return [row.values() for row in client.query_and_wait(query, job_config=config)]

    def objects(self) -> list[str]:
        """The names of the objects in the bucket."""
        with contextlib.closing(self.project.storage()) as client:
            return sorted(blob.name for blob in client.list_blobs(self.project.bucket))

    def content(self, name: str) -> bytes:
        """The content of an object."""
        with contextlib.closing(self.project.storage()) as client:
            return bytes(client.bucket(self.project.bucket).blob(name).download_as_bytes())

    def marker(self, partition_key: str = "green/2019-01", task_family: str = "LoadTripdataToBigQuery") -> Any:
        """The marker of a file: the copy of its row in the ledger that is kept in the bucket."""
        return json.loads(self.content(f"_ledger/{task_family}/{partition_key}.json"))

    def tables(self, dataset: str = "") -> list[str]:
        """The names of a dataset's tables, by default of the dataset that the pipeline loads into."""
        with contextlib.closing(self.project.bigquery()) as client:
            return sorted(table.table_id for table in client.list_tables(dataset or self.project.dataset))

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs that the emulator received for this project, oldest first, as BigQuery's REST API shows them."""
        assert self.emulators
        emulator = self.emulators.bigquery
        jobs = [job for (project, _), job in emulator.jobs.items() if project == self.project.project]
        return [emulator.job_resource(job) for job in jobs]


def shorten_waits(patch: pytest.MonkeyPatch) -> None:
    """Lets the pipeline and Google's libraries wait a fiftieth as long for the emulators as for Google, which need no
    rest: for a job to end, and before a request or a job is tried again."""
    sleeps = retry_base.exponential_sleep_generator

    def short_sleeps(initial: float, maximum: float, multiplier: float = 2.0) -> Iterator[float]:
        yield from sleeps(initial / 50, maximum / 50, multiplier)

    patch.setattr(retry_unary, "exponential_sleep_generator", short_sleeps)
    patch.setattr(jobs, "_RETRY_WAIT", jobs._RETRY_WAIT / 50)
    patch.setattr(jobs, "_SHORTEST_WAIT", jobs._SHORTEST_WAIT / 50)


def new_google_cloud(emulators: Emulators) -> GoogleCloud:
    """A project with names that no other test uses."""
    name = uuid.uuid4().hex[:12]
    project = GoogleProject(f"test-{name}", "US", f"test-{name}-taxi", "tlc", maximum_bytes_billed=10**9)
    return GoogleCloud(emulators, project)
