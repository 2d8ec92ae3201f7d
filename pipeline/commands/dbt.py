"""`pipeline dbt`: runs dbt with the project's models on the configured warehouse."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.commands import Commands, add_command
from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform import DbtCommand, build_with, modelled_datasets, refuse_test_of_nothing, refuse_without_zones
from pipeline.transform.dbt_process import dbt_folders
from pipeline.warehouses import WAREHOUSES, Warehouse, warehouse_named

_HELP_OPTIONS = {"--help", "-h", "--version", "-V", "-v"}
_WRITING = {"build", "run", "seed", "snapshot", "clone", "retry", "run-operation"}
# With these, the rows that dbt writes are not those of the next build, which therefore replaces them all.
_OTHER_ROWS = {"--vars", "--empty", "--sample"}
_DBT = Path(sys.executable).with_name("dbt")


def add_commands(commands: Commands) -> None:
    """Declares the command."""
    summary = "run dbt on the configured warehouse; takes dbt's own commands and options"
    command = add_command(commands, "dbt", summary, _dbt, takes_more=True)
    command.add_argument(
        "--warehouse", choices=list(WAREHOUSES), default="postgres", help="which warehouse (default: postgres)"
    )


def _dbt(arguments: argparse.Namespace) -> int:
    """Runs dbt with the arguments in `rest` and returns or exits with its exit code.

    dbt writes to `<storage root>/dbt/target`. A command that writes models waits for other builds, and is recorded like
    one of `DbtBuild`. Secrets are not passed as arguments, which other users could read.

    :raises PipelineError: if `test` is run before anything has been built, or models are built without the zones.
    """
    words, warehouse = arguments.rest, arguments.warehouse
    if not words or _HELP_OPTIONS & set(words):
        os.execv(_DBT, ["dbt", *words])
    adapter = warehouse_named(warehouse)
    if not _WRITING & set(words):
        if words[0] == "test" and not {"--select", "-s"} & _options(words):
            refuse_test_of_nothing(adapter, warehouse)
        adapter.prepare_build(modelled_datasets())
        os.execve(_DBT, ["dbt", *words, *_variables(words)], _environment(adapter))
    if {"build", "run"} & set(words):
        refuse_without_zones(adapter, warehouse)
    return _write(adapter, words)


def _write(adapter: Warehouse, words: list[str]) -> int:
    code, options = 0, _options(words)
    builds_everything = words[0] == "build" and not set(words[1:]) - {"--full-refresh"}
    full_refresh = bool(options & {"--full-refresh", *_OTHER_ROWS})

    def run_dbt(command: DbtCommand) -> bool:
        nonlocal code
        given = command.arguments if builds_everything else words
        process = subprocess.Popen([_DBT, *given, *_variables(words)], env=_environment(adapter))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C also reaches dbt, which cancels its queries and ends
        code = process.wait()
        return not code

    # Of the other commands, only that they write matters: dbt gets the user's words.
    command = DbtCommand("build" if builds_everything else "run", full_refresh=full_refresh)
    build_with(adapter, command, DbtSettings().variables(), run_dbt)
    return code


def _options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words}


def _variables(words: list[str]) -> list[str]:
    return [] if "--vars" in _options(words) else ["--vars", json.dumps(DbtSettings().variables())]


def _environment(adapter: Warehouse) -> dict[str, str]:
    profile = adapter.dbt_profile()
    folders = dbt_folders(StorageSettings().dbt_folder() / "target")
    return {**profile.process_environment(), **folders, "DBT_TARGET": profile.target}
