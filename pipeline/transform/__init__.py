"""The dbt models: what they read, whether they are up to date, and building them, one build at a time."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.datasets import Dataset, Release, all_datasets, format_month
from pipeline.datasets.spec import ZONES
from pipeline.errors import PipelineError
from pipeline.transform.dbt_process import PROJECT, LogLine, NodeResult, invoke
from pipeline.warehouses import Warehouse
from pipeline.warehouses.ledger import Build, LedgerEntry

_ANY_MONTH = datetime.date(2019, 1, 1)
_PARTS = {".sql", ".yml", ".csv"}
_WRITTEN_BY_DBT = {"target", "logs", "dbt_packages", ".user.yml"}  # if somebody runs dbt in the folder


@dataclass(frozen=True)
class DbtCommand:
    """One of dbt's commands, the nodes to select (all if empty), and whether to rebuild from nothing.

    With `files_only`, a build of everything leaves out the nodes that do not depend on which files are loaded.
    """

    name: str = "build"
    select: str = ""
    full_refresh: bool = False
    run_id: str = ""
    files_only: bool = False

    @property
    def builds_everything(self) -> bool:
        return self.name == "build" and not self.select

    @property
    def writes(self) -> bool:
        return self.name in ("build", "run")

    @property
    def arguments(self) -> list[str]:
        select = ["--select", self.select] if self.select else []
        if self.builds_everything and self.files_only:
            select = ["--select", "tag:files", "--indirect-selection", "empty"]  # only tests that have the tag
        elif self.builds_everything:
            select = ["--exclude", "tag:rows"]  # `facts_hold` checks the same in one pass over the rows
        return [self.name, *select, *(["--full-refresh"] if self.full_refresh and self.writes else [])]


def modelled_datasets() -> list[Dataset]:
    """Returns the datasets that the models read: the zones, and each dataset whose table has a staging model.

    :raises PipelineError: if the files of a dataset are not named after its table, because the models rely on that.
    """
    found = [dataset for dataset in all_datasets().values() if is_modelled(dataset)]
    for dataset in filter(lambda dataset: dataset.is_monthly, found):
        filename = Release(dataset, _ANY_MONTH).filename
        if filename != f"{dataset.table}_{format_month(_ANY_MONTH)}.csv":
            raise PipelineError(
                f"the models cannot read {dataset.name}: its files are named like {filename}, not like its table"
                f" {dataset.table}; forget the months that are loaded, if any, and name the table (and its staging"
                " model) after the files, which must end in the month"
            )
    return found


def is_modelled(dataset: Dataset) -> bool:
    """Returns whether the models read the dataset's table, or would if its files were named after it."""
    return dataset.name == ZONES or (PROJECT / "models" / "staging" / f"stg_{dataset.table}.sql").exists()


def _model_names() -> list[str]:
    """Returns the names of the models. Each model is a table or view of that name."""
    return sorted(file.stem for file in (PROJECT / "models").rglob("*.sql"))


def _relation_names() -> list[str]:
    """Returns the names of all relations that dbt creates: models and seeds."""
    return sorted([*_model_names(), *(file.stem for file in (PROJECT / "seeds").glob("*.csv"))])


def _models_digest(variables: Mapping[str, object]) -> str:
    """Returns a digest of the project's files and the values of the variables."""
    digest = hashlib.sha256(json.dumps(variables, sort_keys=True).encode())
    for file in sorted(file for file in PROJECT.rglob("*") if file.suffix in _PARTS):
        if file.relative_to(PROJECT).parts[0] in _WRITTEN_BY_DBT:
            continue
        digest.update(f"\0{file.relative_to(PROJECT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def wanted_build(loaded: Sequence[LedgerEntry], variables: Mapping[str, object]) -> Build:
    """Returns the record of a build that starts now: the digests of the models and of what is loaded."""
    is_monthly = {dataset.table: dataset.is_monthly for dataset in modelled_datasets()}
    read = [entry for entry in loaded if entry.target_table in is_monthly]
    return Build(
        models_digest=_models_digest(variables),
        loads_digest=_digest(read),
        lookups_digest=_digest(entry for entry in read if not is_monthly[entry.target_table]),
        started_at=datetime.datetime.now(datetime.UTC),
    )


def _digest(loaded: Iterable[LedgerEntry]) -> str:
    # In UTC, because PostgreSQL gives times in the time zone of the role, and the next build may have another role.
    loads = sorted(
        f"{entry.partition_key} {entry.finished_at and entry.finished_at.astimezone(datetime.UTC)}" for entry in loaded
    )
    return hashlib.sha256("\n".join(loads).encode()).hexdigest()


def current_build(warehouse: Warehouse, variables: Mapping[str, object]) -> Build | None:
    """Returns the last build if the models reflect exactly their own sources and what is loaded, otherwise None."""
    last = warehouse.last_build()
    if last is None:
        return None
    loaded = warehouse.loaded()
    if not last.reflects(wanted_build(loaded, variables)):
        return None
    return None if last.is_marked and _foreign_relations(warehouse, loaded) else last


def build(
    warehouse: Warehouse,
    command: DbtCommand,
    variables: Mapping[str, object],
    folder: Path,
    on_line: Callable[[LogLine], None],
) -> list[NodeResult]:
    """Runs dbt and returns the result of every node; an empty list if another build has just finished the same work.

    If the models themselves have changed, they are rebuilt from scratch.

    :raises PipelineError: with the model and the line that failed.
    """

    results = list[NodeResult]()

    def run(command: DbtCommand) -> bool:
        results.extend(invoke(command.arguments, warehouse.dbt_profile(), variables, folder, on_line))
        return True

    if not command.writes:
        run(command)
    else:
        build_with(warehouse, command, variables, run, once=True)
    return results


def build_with(
    warehouse: Warehouse,
    command: DbtCommand,
    variables: Mapping[str, object],
    run: Callable[[DbtCommand], bool],
    once: bool = False,
) -> None:
    """Calls `run` with a command that writes models, and records what they were built from if `run` returns True.

    Only one such command runs at a time. With `once`, nothing is done if the previous one has just done the same work.
    """
    with warehouse.build_lock() as check_lock:
        last = warehouse.last_build()
        is_marked = last is None or last.is_marked
        loaded = warehouse.loaded()  # before dbt runs, so that files loaded meanwhile count as not built yet
        if is_marked:
            _check_relations(warehouse, loaded)
        warehouse.prepare_build(modelled_datasets())
        wanted = wanted_build(loaded, variables)
        if once and command.builds_everything and not command.full_refresh and last and last.reflects(wanted):
            return
        if last is None or last.models_digest != wanted.models_digest:
            command = replace(command, full_refresh=True)
        elif once and last.finished_at and last.is_marked and last.lookups_digest == wanted.lookups_digest:
            command = replace(command, files_only=warehouse.has_relations(_relation_names()))
        wanted = replace(wanted, run_id=command.run_id, is_marked=is_marked)
        started = replace(wanted, models_digest="" if command.full_refresh else wanted.models_digest)
        warehouse.record_build(started)
        if run(command) and command.builds_everything:
            check_lock()  # otherwise another build may be changing the same models
            warehouse.record_build(replace(wanted, finished_at=datetime.datetime.now(datetime.UTC), is_marked=True))


def _foreign_relations(warehouse: Warehouse, loaded: Iterable[LedgerEntry]) -> list[str]:
    return warehouse.foreign_relations(_model_names(), {entry.target_table for entry in loaded})


def _check_relations(warehouse: Warehouse, loaded: Iterable[LedgerEntry]) -> None:
    """:raises PipelineError: if a table or view of another program has a name that the models need."""
    if others := _foreign_relations(warehouse, loaded):
        raise PipelineError(
            f"not created by this pipeline, but named like a model or a loaded table: {', '.join(others)}; nothing was"
            " built. Rename or drop it, or set [dbt] schema to a schema for the models alone; the next build creates a"
            " model again, and --force loads a table again"
        )


def refuse_test_of_nothing(warehouse: Warehouse, name: str) -> None:
    """:raises PipelineError: if no model has been built; every test would fail because its table is missing."""
    if warehouse.last_build() is None:
        raise PipelineError(
            f"no model has been built yet, so there is nothing to test; first: pipeline build --warehouse {name}"
        )


def refuse_without_zones(warehouse: Warehouse, name: str) -> None:
    """:raises PipelineError: if the taxi zones are not loaded, without which no trip is in the models."""
    if all(entry.month for entry in warehouse.loaded()):
        raise PipelineError(
            f"the taxi zones are not loaded, and the models need them; first: pipeline load zones --warehouse {name}"
        )
