"""Building the models: whether they are up to date, and bringing them there, one build at a time."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pipeline.models.invocation import LogLine, NodeResult, invoke
from pipeline.models.project import modelled_specs, models_digest
from pipeline.warehouses.dbt_build import Build
from pipeline.warehouses.ledger import LedgerEntry


@dataclass(frozen=True)
class DbtCommand:
    """One of dbt's commands, the nodes to select (all if empty), and whether to rebuild from nothing."""

    name: str = "build"
    select: str = ""
    full_refresh: bool = False

    @property
    def builds_everything(self) -> bool:
        return self.name == "build" and not self.select

    @property
    def writes(self) -> bool:
        return self.name in ("build", "run")

    @property
    def words(self) -> list[str]:
        select = ["--select", self.select] if self.select else []
        return [self.name, *select, *(["--full-refresh"] if self.full_refresh and self.writes else [])]


class ModelWarehouse(Protocol):
    """What building needs of a warehouse."""

    @property
    def target(self) -> str:
        """The name of its output in `dbt/profiles.yml`."""

    def environment(self) -> dict[str, str]:
        """What `dbt/profiles.yml` reads, secrets too; for dbt's process only."""

    def loads(self) -> Sequence[LedgerEntry]:
        """Every file that is loaded."""

    def prepare(self) -> None:
        """Returns when every table that the models read is there."""

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Lets one build at a time write the models; given up by the death of the process too."""

    def last_build(self) -> Build | None:
        """The marker, or None when nothing has been built."""

    def record(self, build: Build) -> None:
        """Writes the marker in the place of any there was."""


def _wanted_build(warehouse: ModelWarehouse, variables: Mapping[str, object]) -> Build:
    """What a build that begins now would reflect."""
    tables = {spec.table for spec in modelled_specs()}
    loads = sorted(f"{e.partition_key} {e.finished_at}" for e in warehouse.loads() if e.target_table in tables)
    return Build(
        models_digest=models_digest(variables),
        loads_digest=hashlib.sha256("\n".join(loads).encode()).hexdigest(),
        started_at=datetime.datetime.now(datetime.UTC),
    )


def current_build(warehouse: ModelWarehouse, variables: Mapping[str, object]) -> Build | None:
    """The last build, if the models reflect exactly what is loaded and their own sources; otherwise None."""
    last = warehouse.last_build()
    return last if last and last.reflects(_wanted_build(warehouse, variables)) else None


def build(
    warehouse: ModelWarehouse,
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
        return invoke(command.words, warehouse.target, variables, warehouse.environment(), folder, on_line)

    if not command.writes:
        return run(command)
    with warehouse.locked():
        warehouse.prepare()
        # First, so that what is loaded while dbt runs is found to be missing afterwards.
        wanted, last = _wanted_build(warehouse, variables), warehouse.last_build()
        if command.builds_everything and not command.full_refresh and last and last.reflects(wanted):
            return []
        if last is None or last.models_digest != wanted.models_digest:
            command = replace(command, full_refresh=True)
        started = replace(wanted, models_digest="" if command.full_refresh else wanted.models_digest)
        warehouse.record(started)
        results = run(command)
        if command.builds_everything:
            warehouse.record(replace(wanted, finished_at=datetime.datetime.now(datetime.UTC)))
        return results
