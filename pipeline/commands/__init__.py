"""The commands of `pipeline`, one per module. Those that load, build and report run Luigi tasks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable

from luigi.retcodes import run_with_retcodes


def luigi_line(arguments: Iterable[str]) -> str:
    """Returns the equivalent `luigi` command line."""
    return shlex.join(["luigi", "--module", "pipeline", *arguments])


def run_luigi(arguments: list[str]) -> int:
    """Prints the equivalent `luigi` command line, runs it in this process and returns its exit code."""
    print(luigi_line(arguments), file=sys.stderr, flush=True)
    try:
        run_with_retcodes(["--module", "pipeline", *arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
