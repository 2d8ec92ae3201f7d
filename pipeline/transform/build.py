"""Building the models: whether they are up to date, and bringing them there, one build at a time."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.transform.dbt_process import LogLine, NodeResult, invoke
from pipeline.transform.project import modelled_datasets, models_digest
from pipeline.warehouses import Warehouse
from pipeline.warehouses.ledger import Build


@dataclass(frozen=True)
class DbtCommand:
    """One of dbt's commands, the nodes to select (all if empty), and whether to rebuild from nothing."""

    name: str = "build"
    select: str = ""
    full_refresh: bool = False
    run_id: str = ""

    @property
    def builds_everything(self) -> bool:
        return self.name == "build" and not self.select

    @property
    def writes(self) -> bool:
        return self.name in ("build", "run")

    @property
    def words(self) -> list[str]:
        select = ["--select", self.select] if self.select else []
        if self.builds_everything:
            select = ["--exclude", "tag:rows"]  # `facts_hold` says the same in one pass over the rows
        return [self.name, *select, *(["--full-refresh"] if self.full_refresh and self.writes else [])]


def wanted_build(warehouse: Warehouse, variables: Mapping[str, object]) -> Build:
    """What a build that begins now would reflect."""
    tables = {spec.table for spec in modelled_datasets()}
    loads = sorted(f"{e.partition_key} {e.finished_at}" for e in warehouse.loaded() if e.target_table in tables)
    return Build(
        models_digest=models_digest(variables),
        loads_digest=hashlib.sha256("\n".join(loads).encode()).hexdigest(),
        started_at=datetime.datetime.now(datetime.UTC),
    )


def current_build(warehouse: Warehouse, variables: Mapping[str, object]) -> Build | None:
    """The last build, if the models reflect exactly what is loaded and their own sources; otherwise None."""
    last = warehouse.last_build()
    return last if last and last.reflects(wanted_build(warehouse, variables)) else None


def build(
    warehouse: Warehouse,
    command: DbtCommand,
    variables: Mapping[str, object],
    folder: Path,
    on_line: Callable[[LogLine], None],
) -> list[NodeResult]:
    """Runs dbt; returns what became of every node, nothing where another build has just done it all.

    Models whose own sources have changed are rebuilt from nothing.

    :raises PipelineError: naming the model and the line that failed.
    """

    def run(command: DbtCommand) -> list[NodeResult]:
        return invoke(command.words, warehouse.dbt_profile(), variables, folder, on_line)

    if not command.writes:
        return run(command)
    with warehouse.build_lock():
        warehouse.prepare_build(modelled_datasets())
        # First, so that what is loaded while dbt runs is found to be missing afterwards.
        wanted, last = wanted_build(warehouse, variables), warehouse.last_build()
        if command.builds_everything and not command.full_refresh and last and last.reflects(wanted):
            return []
        if last is None or last.models_digest != wanted.models_digest:
            command = replace(command, full_refresh=True)
        wanted = replace(wanted, run_id=command.run_id)
        started = replace(wanted, models_digest="" if command.full_refresh else wanted.models_digest)
        warehouse.record_build(started)
        results = run(command)
        if command.builds_everything:
            warehouse.record_build(replace(wanted, finished_at=datetime.datetime.now(datetime.UTC)))
        return results
