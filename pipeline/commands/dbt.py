"""`pipeline dbt`: dbt itself, on the project's models and the configured warehouse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform.build import DbtCommand, build_with, refuse_test_of_nothing
from pipeline.transform.dbt_process import dbt_folders
from pipeline.transform.project import modelled_datasets
from pipeline.warehouses import Warehouse, warehouse_named

_ASKS_FOR_HELP = {"--help", "-h", "--version", "-V", "-v"}
_DBT = Path(sys.executable).with_name("dbt")


def run(warehouse: str, words: list[str]) -> int:
    """Runs dbt with these words of its own, and ends with its exit code.

    What it leaves is in `<storage root>/dbt/target`. A build of everything counts as `DbtBuild`'s. Nothing secret is in
    dbt's arguments, where other users could read it.

    :raises PipelineError: when there is nothing yet that a test could look at.
    """
    if not words or _ASKS_FOR_HELP & set(words):
        os.execv(_DBT, ["dbt", *words])
    adapter = warehouse_named(warehouse)
    if words[0] == "test" and not {"--select", "-s"} & set(words):
        refuse_test_of_nothing(adapter, warehouse)
    if words[0] != "build" or set(words[1:]) - {"--full-refresh"}:
        adapter.prepare_build(modelled_datasets())
        variables = [] if "--vars" in words else _variables()
        os.execve(_DBT, ["dbt", *words, *variables], _environment(adapter))
    return _build(adapter, "--full-refresh" in words)


def _build(adapter: Warehouse, full_refresh: bool) -> int:
    code = 0

    def run_dbt(command: DbtCommand) -> bool:
        nonlocal code
        words = [str(_DBT), *command.words, *_variables()]
        code = subprocess.run(words, env=_environment(adapter), check=False).returncode
        return not code

    build_with(adapter, DbtCommand(full_refresh=full_refresh), DbtSettings().variables(), run_dbt)
    return code


def _variables() -> list[str]:
    return ["--vars", json.dumps(DbtSettings().variables())]


def _environment(adapter: Warehouse) -> dict[str, str]:
    profile = adapter.dbt_profile()
    folders = dbt_folders(StorageSettings().dbt_folder() / "target")
    return {**profile.process_environment(), **folders, "DBT_TARGET": profile.target}
