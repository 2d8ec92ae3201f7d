"""`pipeline dbt`: dbt itself, on the project's models and the configured warehouse."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pipeline.settings import DbtSettings, StorageSettings
from pipeline.transform.dbt_process import dbt_folders
from pipeline.transform.project import modelled_datasets
from pipeline.warehouses import warehouse_named


def run(warehouse: str, arguments: list[str]) -> int:
    """Becomes dbt, given the arguments as its own; does not return. What it leaves is in `<storage root>/dbt/target`.

    Nothing secret is in its arguments, where other users could read it.
    """
    adapter, target = warehouse_named(warehouse), StorageSettings().dbt_folder() / "target"
    adapter.prepare_build(modelled_datasets())
    profile = adapter.dbt_profile()
    environment = {**profile.process_environment(), **dbt_folders(target), "DBT_TARGET": profile.target}
    variables = [] if "--vars" in arguments else ["--vars", json.dumps(DbtSettings().variables())]
    os.execve(Path(sys.executable).with_name("dbt"), ["dbt", *arguments, *variables], environment)
