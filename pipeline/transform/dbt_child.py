"""The process that dbt runs in, which ends with the process that started it, even if that one was killed.

dbt's imports take longer than most of what it is asked to do, so it may be started before there is anything to do: it
imports what it needs, then waits for its arguments and its environment, a line of JSON on standard input.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import threading


def main() -> None:
    """Runs dbt with the arguments it is sent, for as long as standard input stays open."""
    gc.disable()  # while only what stays is made: a fifth of the time of the imports
    from dbt.cli.main import cli

    with contextlib.suppress(ImportError):  # dbt says which adapter is missing, once it is to connect by it
        importlib.import_module(f"dbt.adapters.{sys.argv[1]}")
    gc.freeze()
    gc.enable()
    line = _read_line()
    if not line:
        return
    order = json.loads(line)
    os.environ.clear()
    os.environ.update(order["environment"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cli(order["arguments"], prog_name="dbt")


def _read_line() -> bytes:
    # Without a buffer, whose lock would be held when the interpreter ends.
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(sys.stdin.fileno(), 65536)):
        line += piece
    return line


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
