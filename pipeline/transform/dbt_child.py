"""The process that dbt runs in, which ends with the process that started it, even if that one was killed."""

from __future__ import annotations

import os
import sys
import threading


def main() -> None:
    """Runs dbt with this process's arguments for as long as standard input stays open."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from dbt.cli.main import cli

    cli(prog_name="dbt")


def _end_with_parent() -> None:
    # Without a buffer, whose lock would be held when the interpreter ends.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
