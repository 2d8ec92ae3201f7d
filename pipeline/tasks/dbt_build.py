"""DbtBuild: the dbt models in a warehouse, brought in step with what is loaded there."""

from __future__ import annotations

import logging
from typing import Any

import luigi

from pipeline.models import DbtCommand, LogLine, NodeResult, build
from pipeline.settings import dbt, storage
from pipeline.targets import ModelsMarker
from pipeline.tasks.load import LoadZones
from pipeline.tasks.load_bigquery import LoadZonesToBigQuery
from pipeline.tasks.task import PipelineTask
from pipeline.warehouses import WAREHOUSES

logger = logging.getLogger("luigi-interface")


class ModelsTask(PipelineTask):
    """A task about the dbt models in a warehouse."""

    warehouse = luigi.ChoiceParameter(choices=list(WAREHOUSES), description="which warehouse")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.resources = {f"dbt_{self.warehouse}": 1}  # a central scheduler then starts one build of it at a time

    def output(self) -> ModelsMarker:
        return ModelsMarker(self.warehouse)

    def load_zones(self) -> LoadZones | LoadZonesToBigQuery:
        """What every build needs, whatever months are loaded."""
        return LoadZonesToBigQuery() if self.warehouse == "bigquery" else LoadZones()

    def build_models(self, command: DbtCommand) -> None:
        """Runs dbt, and shows on the task's page how far it is and how long each model took."""
        results = build(dbt().models_in(self.warehouse), command, dbt().variables(), storage().dbt_folder(), self._hear)
        self.tell(_timings(results) if results else "another run has just built it")

    def _hear(self, line: LogLine) -> None:
        logger.log(logging.getLevelNamesMapping().get(line.level.upper(), logging.INFO), "dbt: %s", line.message)
        if line.done and line.total:
            self.tell(f"{line.done} of {line.total}: {line.message}")
            if self.set_progress_percentage is not None:
                self.set_progress_percentage(100 * line.done // line.total)


class DbtBuild(ModelsTask):
    """The dbt models; complete when they reflect exactly the months that are loaded and their own sources."""

    command = luigi.ChoiceParameter(
        choices=["build", "run", "test", "debug"], default="build", description="which of dbt's commands"
    )
    select = luigi.Parameter(default="", description="dbt's own way to say which models, such as +fact_trips")
    full_refresh = luigi.BoolParameter(
        default=False, significant=False, description="build from nothing, even what is up to date"
    )

    @property
    def dbt_command(self) -> DbtCommand:
        return DbtCommand(self.command, self.select, self.full_refresh)

    def requires(self) -> LoadZones | LoadZonesToBigQuery:
        return self.load_zones()

    def complete(self) -> bool:
        # Anything but a whole build is done because somebody asked for it, each time.
        if not self.dbt_command.builds_everything:
            return False
        last = self.output().build()
        return last is not None and (not self.full_refresh or last.started_at >= self.asked_at)

    def run(self) -> None:
        self.build_models(self.dbt_command)


def _timings(results: list[NodeResult]) -> str:
    slowest = sorted(results, key=lambda result: result.seconds, reverse=True)
    return "\n".join(f"{result.name}: {result.status} in {result.seconds:.1f} s" for result in slowest)
