"""The process that dbt runs in. It ends with the process that started it, even if that process is killed.

dbt's imports take longer than most commands, so the process may be started before there is a command. It imports dbt,
then waits for a line of JSON on standard input with the arguments and the environment.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import sys
import threading


def main() -> None:
    """Runs dbt with the arguments from standard input, until it is done or standard input is closed."""
    gc.disable()  # saves a fifth of the imports' time; imported modules are never freed
    from dbt.cli.main import cli

    with contextlib.suppress(ImportError):  # dbt itself reports a missing adapter when it connects
        importlib.import_module(f"dbt.adapters.{sys.argv[1]}")
    gc.freeze()
    gc.enable()
    line = _read_line()
    if not line:
        return
    request = json.loads(line)
    os.environ.clear()
    os.environ.update(request["environment"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.raiseExceptions = False  # if the disk is full: a traceback for each line that is not written to dbt.log
    cli(request["arguments"], prog_name="dbt")


def _read_line() -> bytes:
    # Unbuffered: a buffer's lock would be held when the interpreter exits.
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(sys.stdin.fileno(), 65536)):
        line += piece
    return line


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
