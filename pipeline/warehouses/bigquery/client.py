"""Where in Google Cloud the pipeline works, and clients for it; Google's libraries are imported when used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.warehouses.bigquery.credentials import credentials

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

# As Google's own libraries call them.
_BIGQUERY_EMULATOR, _STORAGE_EMULATOR = "BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"


@dataclass(frozen=True)
class GcpProject:
    """A bucket and a dataset of a project, both in one location; holds no secret and no connection."""

    project: str
    location: str
    bucket: str
    dataset: str
    maximum_bytes_billed: int

    @property
    def staging_dataset(self) -> str:
        """Where files are loaded before they are merged; whatever is left there expires."""
        return f"{self.dataset}_staging"

    @property
    def is_bigquery_emulated(self) -> bool:
        """Whether the environment sends BigQuery's requests to an emulator."""
        return _is_emulated(_BIGQUERY_EMULATOR)

    def table_id(self, table: str) -> str:
        return f"{self.project}.{self.dataset}.{table}"

    def staging_table_id(self, table: str) -> str:
        return f"{self.project}.{self.staging_dataset}.{table}"

    def storage(self) -> storage.Client:
        """A new client: workers fork, connections do not.

        :raises PipelineError: when there are no usable credentials; the message shows nothing of them.
        """
        from google.cloud import storage

        return storage.Client(project=self.project, credentials=credentials(_is_emulated(_STORAGE_EMULATOR)))

    def bigquery(self) -> bigquery.Client:
        """A new client, whose jobs run in the project's location.

        :raises PipelineError: when there are no usable credentials; the message shows nothing of them.
        """
        from google.cloud import bigquery

        return bigquery.Client(
            project=self.project, location=self.location, credentials=credentials(self.is_bigquery_emulated)
        )


def _is_emulated(variable: str) -> bool:
    return bool(os.environ.get(variable))
