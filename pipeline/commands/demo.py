"""`pipeline demo`: loads the real months in samples/, builds the models and the report, in a separate folder."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from pipeline.commands import Commands, add_command, luigi_line, own_command
from pipeline.errors import PipelineError
from pipeline.files import SAMPLES, data_home

_CONFIGURATION = """\
# Settings of the demo. To remove it, run pipeline stop and delete this folder.
[storage]
root = data

[source]
base_url = {samples}

[postgres]
dsn =
schema = public
"""
_LOAD_GREEN = [
    *("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi":"green"}', "--start", "2020-04"),
    *("--stop", "2020-06", "--workers", "2"),
]
_LOAD_YELLOW = ["LoadTripdata", "--taxi", "yellow", "--month", "2021-01", "--source-base-url"]
_REPORT = ["Report", "--warehouse", "postgres"]
_NEXT = """
The report is at {page}

These are real trips: green 2020-04 and 2020-05, and the first 28,401 rows of yellow 2021-01. To look at them:
  cd {folder}
  {pipeline} status
  {pipeline} psql -c 'select count(*) from fact_trips'
To load a month from the release site:
  cd -
  {pipeline_here} load green 2024-07\
"""


def add_commands(commands: Commands) -> None:
    """Declares the command."""
    add_command(commands, "demo", "load, model and report on sample data, in a folder of its own", _demo)


def _demo(_: argparse.Namespace) -> int:
    """Runs the demo and prints where the report is; returns 0, or the exit code of the `luigi` command that failed.

    :raises PipelineError: if the samples are missing.
    """
    if not SAMPLES.is_dir():
        raise PipelineError(f"{SAMPLES} is missing: install the package again")
    folder = data_home() / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "luigi.cfg").write_text(_CONFIGURATION.format(samples=str(SAMPLES).replace("%", "%%")))
    for step in (_LOAD_GREEN, [*_LOAD_YELLOW, str(SAMPLES / "parts")], _REPORT):
        print(luigi_line(step), file=sys.stderr, flush=True)
        code = _run(folder, "luigi", "--module", "pipeline", *step)
        if code:
            return code
    _run(folder, "pipeline", "status")
    page = folder / "data" / "reports" / "postgres" / "index.html"
    commands = {"pipeline": own_command(folder), "pipeline_here": own_command()}
    print(_NEXT.format(page=page.as_uri(), folder=shlex.quote(_display_path(folder)), **commands))
    return 0


def _run(folder: Path, module: str, *arguments: str) -> int:
    """Runs `luigi` or `pipeline` in the folder, without the user's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE__")}
    environment.pop("LUIGI_CONFIG_PATH", None)
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def _display_path(folder: Path) -> str:
    relative = os.path.relpath(folder)
    return relative if not relative.startswith("..") else str(folder)
