"""Everything for a month: loaded into one warehouse or both, and in their marts."""

from __future__ import annotations

import luigi

from pipeline.models import DbtCommand
from pipeline.tasks.dbt_build import ModelsTask
from pipeline.tasks.load import LoadTripdata
from pipeline.tasks.load_bigquery import LoadTripdataToBigQuery
from pipeline.tasks.parameters import ReleaseMonthParameter
from pipeline.tasks.releases import TripdataTask

_WAREHOUSES = {"postgres": ["postgres"], "bigquery": ["bigquery"], "both": ["postgres", "bigquery"]}


class ModelTripdata(TripdataTask, ModelsTask):
    """A month of trip records in the marts. The months of a range are one build, once what can be loaded is loaded."""

    # One build covers all that is loaded, so the scheduler may give a worker all months that are ready as one task.
    month = ReleaseMonthParameter(batch_method=max)

    def requires(self) -> list[luigi.Task]:
        load = LoadTripdataToBigQuery if self.warehouse == "bigquery" else LoadTripdata
        return [load(taxi=self.taxi, month=self.month), self.load_zones()]

    def complete(self) -> bool:
        return all(task.complete() for task in self.requires()) and self.output().exists()

    def run(self) -> None:
        self.build_models(DbtCommand())


class TripdataPipeline(TripdataTask, luigi.WrapperTask):
    """Everything for a month of trip records: extracted, loaded, and in the marts."""

    warehouse = luigi.ChoiceParameter(choices=list(_WAREHOUSES), description="which warehouse, or both")

    def requires(self) -> list[ModelTripdata]:
        return [
            ModelTripdata(taxi=self.taxi, month=self.month, warehouse=warehouse)
            for warehouse in _WAREHOUSES[self.warehouse]
        ]
