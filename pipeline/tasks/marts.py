"""Tasks that build the dbt models, write the report on them, and do everything for a month."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import luigi

from pipeline.errors import TransientError
from pipeline.files import storage_errors
from pipeline.parameters import MonthParameter, OneOfParameter, SourceParameter
from pipeline.settings import DbtSettings, StorageSettings
from pipeline.targets import Lookup, ReportPage, models_marker
from pipeline.tasks.base import WAREHOUSE_CHOICES, PipelineTask, TripdataTask
from pipeline.tasks.load import LOAD_TRIPDATA, LOAD_ZONES, Load
from pipeline.transform import DbtCommand, build, refuse_test_of_nothing
from pipeline.transform.dbt_process import LogLine, NodeResult, start_early
from pipeline.warehouses import WAREHOUSES, warehouse_info, warehouse_named
from pipeline.warehouses.ledger import Build

logger = logging.getLogger("luigi-interface")


class ModelsTask(PipelineTask):
    """A task about the dbt models in a warehouse."""

    warehouse = OneOfParameter(choices=list(WAREHOUSES), description="which warehouse")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.resources = {f"dbt_{self.warehouse}": 1}  # a central scheduler then starts one build of it at a time

    def output(self) -> Lookup[Build]:
        return models_marker(self.warehouse)

    def build_models(self, command: DbtCommand) -> None:
        """Runs dbt, and shows its progress and the duration of each model on the task's page."""
        warehouse, folder = warehouse_named(self.warehouse), StorageSettings().dbt_folder()
        if command.name == "test" and not command.select:
            refuse_test_of_nothing(warehouse, self.warehouse)
        with storage_errors(folder):
            results = build(warehouse, command, DbtSettings().variables(), folder, self._log_line)
        self.set_status(_timings(results) if results else "another run has just built it")

    def _log_line(self, line: LogLine) -> None:
        logger.log(logging.getLevelNamesMapping().get(line.level.upper(), logging.INFO), "dbt: %s", line.message)
        if line.done and line.total:
            self.set_status(f"{line.done} of {line.total}: {line.message}")
            if self.set_progress_percentage is not None:
                self.set_progress_percentage(100 * line.done // line.total)


@ModelsTask.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)  # type: ignore[untyped-decorator]
def _start_dbt(task: ModelsTask, _: luigi.Task) -> None:
    # The task is not complete, so dbt will run: it can import its modules during the loads.
    start_early(task.warehouse)


class DbtBuild(ModelsTask):
    """The dbt models; complete when they reflect exactly the loaded months and their own source files."""

    command = OneOfParameter(
        choices=["build", "run", "test", "debug"], default="build", description="which of dbt's commands"
    )
    select = luigi.Parameter(default="", description="which models, in dbt's syntax, such as +fact_trips")
    full_refresh = luigi.BoolParameter(
        default=False, significant=False, description="rebuild everything, even if it is up to date"
    )

    @property
    def dbt_command(self) -> DbtCommand:
        return DbtCommand(self.command, self.select, self.full_refresh, self.run_id)

    def requires(self) -> Load:
        return LOAD_ZONES[self.warehouse]()

    def complete(self) -> bool:
        # Other commands than a whole build always run.
        if not self.dbt_command.builds_everything:
            return False
        last = self.output().find()
        return last is not None and (not self.full_refresh or last.run_id == self.run_id)

    def run(self) -> None:
        self.build_models(self.dbt_command)


class ModelTripdata(TripdataTask, ModelsTask):
    """A month of trip records in the marts. A range of months is loaded as far as possible, then built together."""

    # One build covers all that is loaded, so the scheduler may give a worker all months that are ready as one task.
    month = MonthParameter(batch_method=max)
    source = SourceParameter()
    force = Load.force

    def requires(self) -> list[luigi.Task]:
        return [self.clone(LOAD_TRIPDATA[self.warehouse]), LOAD_ZONES[self.warehouse]()]

    def complete(self) -> bool:
        return all(task.complete() for task in self.requires()) and self.output().exists()

    def run(self) -> None:
        self.build_models(DbtCommand(run_id=self.run_id))


class Report(PipelineTask):
    """A page and charts on the marts of a warehouse; complete when they reflect the current marts."""

    warehouse = OneOfParameter(choices=list(WAREHOUSES), description="which warehouse to report on")

    def requires(self) -> DbtBuild:
        return DbtBuild(warehouse=self.warehouse)

    def output(self) -> ReportPage:
        return ReportPage(self.warehouse)

    def run(self) -> Iterator[DbtBuild]:
        from pipeline.report.page import write_report  # imports Jinja, which other tasks do not need

        page = self.output()
        if (digest := page.digest()) is None:
            yield self.requires()  # another run has loaded something since the models were built
            digest = page.digest()
        if digest is None:
            raise TransientError("other runs keep loading or removing months while the models are built; run again")
        with storage_errors(page.path):
            write_report(warehouse_named(self.warehouse), warehouse_info(self.warehouse).title, page.path, digest)
        self.log_status(f"the report is at {page.path.resolve().as_uri()}")


class TripdataPipeline(TripdataTask):
    """Everything for a month of trip records: extracted, loaded, in the marts, and reported on."""

    warehouse = OneOfParameter(choices=list(WAREHOUSE_CHOICES), description="which warehouse, or both")
    source = SourceParameter()
    force = Load.force

    def requires(self) -> list[ModelTripdata]:
        return [self.clone(ModelTripdata, warehouse=name) for name in WAREHOUSE_CHOICES[self.warehouse]]

    def complete(self) -> bool:
        # A current report is on current models, which need not be looked at twice.
        loads = [task for models in self.requires() for task in models.requires()]
        return all(task.complete() for task in [*loads, *self._reports()])

    @classmethod
    def complete_among(cls, tasks: Sequence[TripdataPipeline]) -> list[TripdataPipeline]:
        """Returns which of the tasks, which differ in the month only, need not run.

        These are the loaded months, except for the last one if the models or the report are out of date: one is enough,
        as it makes them for all.
        """
        names = WAREHOUSE_CHOICES[tasks[0].warehouse]
        loaded = {task.release.key for task in tasks}
        for load in (LOAD_TRIPDATA[name] for name in names):
            loaded &= {task.release.key for task in load.complete_among([task.clone(load) for task in tasks])}
        complete = [task for task in tasks if task.release.key in loaded]
        shared = [*(LOAD_ZONES[name]() for name in names), *tasks[0]._reports()]
        return complete if complete and all(task.complete() for task in shared) else complete[:-1]

    def run(self) -> Iterator[list[Report]]:
        yield self._reports()

    def _reports(self) -> list[Report]:
        # Not in `requires`: a report needs the models with all months of a range in them.
        return [Report(warehouse=warehouse) for warehouse in WAREHOUSE_CHOICES[self.warehouse]]


def _timings(results: list[NodeResult]) -> str:
    slowest = sorted(results, key=lambda result: result.seconds, reverse=True)
    return "\n".join(f"{result.name}: {result.status} in {result.seconds:.1f} s" for result in slowest)
