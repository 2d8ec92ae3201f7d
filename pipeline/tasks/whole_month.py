"""Everything for a month: loaded into one warehouse or both, in their marts, and reported on."""

from __future__ import annotations

from collections.abc import Iterator

import luigi

from pipeline.models import DbtCommand
from pipeline.tasks.dbt_build import ModelsTask
from pipeline.tasks.load import LoadTripdata
from pipeline.tasks.load_bigquery import LoadTripdataToBigQuery
from pipeline.tasks.parameters import ReleaseMonthParameter
from pipeline.tasks.releases import TripdataTask
from pipeline.tasks.report import Report
from pipeline.warehouses import WAREHOUSES

_CHOICES = {warehouse: [warehouse] for warehouse in WAREHOUSES} | {"both": list(WAREHOUSES)}


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


class TripdataPipeline(TripdataTask):
    """Everything for a month of trip records: extracted, loaded, in the marts, and reported on."""

    warehouse = luigi.ChoiceParameter(choices=list(_CHOICES), description="which warehouse, or both")

    def requires(self) -> list[ModelTripdata]:
        return [
            ModelTripdata(taxi=self.taxi, month=self.month, warehouse=warehouse)
            for warehouse in _CHOICES[self.warehouse]
        ]

    def complete(self) -> bool:
        return all(task.complete() for task in [*self.requires(), *self._reports()])

    def run(self) -> Iterator[list[Report]]:
        yield self._reports()

    def _reports(self) -> list[Report]:
        # Not required, as a report needs the models as they are once all months of a range are in them.
        return [Report(warehouse=warehouse) for warehouse in _CHOICES[self.warehouse]]
