"""`pipeline dbt`: runs dbt with the project's models on the configured warehouse."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.commands import Commands, add_command
from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform import DbtCommand, build_with, modelled_datasets, refuse_test_of_nothing
from pipeline.transform.dbt_process import dbt_folders
from pipeline.warehouses import WAREHOUSES, Warehouse, warehouse_named

_HELP_OPTIONS = {"--help", "-h", "--version", "-V", "-v"}
_DBT = Path(sys.executable).with_name("dbt")


def add_commands(commands: Commands) -> None:
    """Declares the command."""
    summary = "run dbt on the configured warehouse; takes dbt's own commands and options"
    command = add_command(commands, "dbt", summary, _dbt, takes_more=True)
    command.add_argument(
        "--warehouse", choices=list(WAREHOUSES), default="postgres", help="which warehouse (default: postgres)"
    )


def _dbt(arguments: argparse.Namespace) -> int:
    """Runs dbt with the arguments in `rest` and exits with its exit code.

    dbt writes to `<storage root>/dbt/target`. A complete `build` is recorded like one of `DbtBuild`. Secrets are not
    passed as arguments, which other users could read.

    :raises PipelineError: if `test` is run before anything has been built.
    """
    words, warehouse = arguments.rest, arguments.warehouse
    if not words or _HELP_OPTIONS & set(words):
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
        words = [str(_DBT), *command.arguments, *_variables()]
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
