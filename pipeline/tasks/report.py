"""Report: a page on what is in a warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import luigi

from pipeline.errors import PipelineError
from pipeline.settings import dbt, gcp, postgres
from pipeline.targets import ReportPage
from pipeline.tasks.dbt_build import DbtBuild
from pipeline.tasks.task import PipelineTask
from pipeline.warehouses import WAREHOUSES

if TYPE_CHECKING:
    from pipeline.report.warehouse import Warehouse


class Report(PipelineTask):
    """A page and its charts on what the marts of a warehouse hold; complete when they reflect the marts of now."""

    warehouse = luigi.ChoiceParameter(choices=list(WAREHOUSES), description="which warehouse to report on")

    def requires(self) -> DbtBuild:
        return DbtBuild(warehouse=self.warehouse)

    def output(self) -> ReportPage:
        return ReportPage(self.warehouse)

    def run(self) -> None:
        from pipeline.report.writing import write_report

        page = self.output()
        digest = page.digest()
        if digest is None:
            raise PipelineError("what is loaded has changed since the models were built; run again")
        write_report(self._warehouse(), page.path, digest)
        self.announce(f"the report is at {page.path.resolve().as_uri()}")

    def _warehouse(self) -> Warehouse:
        from pipeline.report.warehouse import BigQueryWarehouse, PostgresWarehouse

        if self.warehouse == "postgres":
            database = postgres().database()
            return PostgresWarehouse(database, dbt().schema or database.schema)
        place = gcp().place()
        return BigQueryWarehouse(place, dbt().schema or place.dataset)
