"""Commands: what `pipeline` does, a module each. Those that do the work run Luigi's tasks, and say how Luigi would."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable

from luigi.retcodes import run_with_retcodes


def luigi_line(arguments: Iterable[str]) -> str:
    """What to type to have Luigi do the same."""
    return shlex.join(["luigi", "--module", "pipeline", *arguments])


def run_luigi(arguments: list[str]) -> int:
    """Runs a task in this process as `luigi` does, after showing the line that does the same; returns its exit code."""
    print(luigi_line(arguments), file=sys.stderr, flush=True)
    try:
        run_with_retcodes(["--module", "pipeline", *arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
