"""`pipeline dbt`: dbt itself, on the project's models and the configured warehouse."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pipeline.models import dbt_folders
from pipeline.settings import dbt, storage


def run(warehouse: str, arguments: list[str]) -> int:
    """Becomes dbt, given the arguments as its own; does not return. What it leaves is in `<storage root>/dbt/target`.

    Nothing secret is in its arguments, where other users could read it.
    """
    models, target = dbt().models_in(warehouse), storage().dbt_folder() / "target"
    models.prepare()
    os.environ.update(models.environment() | dbt_folders(target) | {"DBT_TARGET": models.target})
    variables = [] if "--vars" in arguments else ["--vars", json.dumps(dbt().variables())]
    os.execv(Path(sys.executable).with_name("dbt"), ["dbt", *arguments, *variables])
