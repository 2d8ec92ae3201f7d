"""The `luigi` program as this distribution installs it: Luigi's own, with two of its tracebacks in one line instead.

Luigi reads its configuration, and looks for the task, before it imports the module that `--module` names. So what is
wrong with either can only be told from outside. This module is beside the package, since importing the package sets
Luigi up for it, and another project's `luigi --module theirs …` in the same environment must not be changed.
"""

import configparser
import shlex
import sys

UNREADABLE, UNKNOWN_WORD = 1, 2  # as the package exits for the same mistakes


def main() -> None:
    """Runs `luigi`, and exits as it does; with 1 or 2 and one line for what it has only a traceback for."""
    try:
        from luigi.cmdline import luigi_run
        from luigi.task_register import TaskClassNotFoundException
    except configparser.Error as error:
        print(f"luigi: a configuration file cannot be read: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(UNREADABLE)
    words = sys.argv[1:]
    try:
        luigi_run(words)
    except TaskClassNotFoundException:
        if any(word.partition("=")[0] == "--module" for word in words):
            raise
        line = shlex.join(["luigi", "--module", "pipeline", *words])
        print(f"luigi: which module is this task in? For this pipeline's: {line}", file=sys.stderr)
        sys.exit(UNKNOWN_WORD)
