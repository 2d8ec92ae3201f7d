"""`pipeline demo`: the real months in samples/, loaded, modelled and reported on, apart from anything else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.commands import luigi_line
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
To load a month from the release site, in another folder:
  {pipeline} load green 2024-07\
"""


def run() -> int:
    """Returns 0 once the report is there, and says where; otherwise the exit code of the luigi that failed.

    :raises PipelineError: when the samples are not there.
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
    print(_NEXT.format(page=page.as_uri(), folder=_shown(folder), pipeline=_command(folder)))
    return 0


def _run(folder: Path, module: str, *arguments: str) -> int:
    """Runs one of the two commands in the folder, where no setting of the user's own holds."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE__")}
    ours.pop("LUIGI_CONFIG_PATH", None)
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=folder, env=ours, check=False).returncode


def _shown(folder: Path) -> str:
    relative = os.path.relpath(folder)
    return relative if not relative.startswith("..") else str(folder)


def _command(folder: Path) -> str:
    """How to call `pipeline` in that folder, whether the environment is active or not."""
    if shutil.which("pipeline"):
        return "pipeline"
    relative = os.path.relpath(sys.argv[0], folder)
    return relative if not relative.startswith("../..") else str(Path(sys.argv[0]).absolute())
