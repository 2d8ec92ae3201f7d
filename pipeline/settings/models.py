"""Settings of the dbt models."""

from __future__ import annotations

import luigi

from pipeline.models import BigQueryModels, ModelWarehouse, PostgresModels
from pipeline.settings.files import storage
from pipeline.settings.section import Section
from pipeline.settings.warehouses import gcp, postgres


class dbt(Section):
    """Where the dbt models go, and how they are built."""

    schema: str = luigi.Parameter(
        default="",
        description="the schema or dataset for the models; empty: beside the tables they are made from",
    )
    threads: int = luigi.IntParameter(default=4, description="how many models and tests to run at once")
    known_vendors_only: bool = luigi.BoolParameter(
        default=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="leave the trips whose vendor is blank out of the marts",
    )

    def variables(self) -> dict[str, object]:
        """The values of the dbt project's variables."""
        return {"known_vendors_only": self.known_vendors_only}

    def models_in(self, warehouse: str) -> ModelWarehouse:
        """The models in the configured warehouse of that kind."""
        if warehouse == "bigquery":
            place = gcp().place()
            dataset = self.schema or place.dataset
            return BigQueryModels(place, dataset, self.threads, storage().dbt_folder() / f"{dataset}.lock")
        database = postgres().database()
        return PostgresModels(database, self.schema or database.schema, self.threads)
