"""The `luigi` program that this distribution installs: Luigi's own, with errors in one line that name the remedy.

Luigi reads its configuration before it imports the package, and does not import it at all without `--module`, so the
package cannot report errors in either case. This module is outside the package, because importing the package
configures Luigi, and other projects' `luigi --module …` in the same environment must not be affected.
"""

import configparser
import itertools
import shlex
import sys
import warnings

UNREADABLE, NO_TASK, UNKNOWN_TASK = 1, 1, 2  # the package's exit codes for these errors; for no task, Luigi's


def main() -> None:
    """Runs `luigi` and exits with its exit code, or with 1 or 2 and one line instead of a traceback."""
    arguments = sys.argv[1:]
    if "pipeline" in _modules(arguments):  # which reports it in one line
        warnings.filterwarnings("ignore", "Config file does not exist", UserWarning)
    try:
        from luigi.cmdline import luigi_run
        from luigi.task_register import TaskClassNotFoundException
    except (configparser.Error, UnicodeDecodeError) as error:
        print(f"luigi: a configuration file cannot be read: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(UNREADABLE)
    try:
        luigi_run(arguments)
    except ModuleNotFoundError as error:
        if error.name not in _modules(arguments):
            raise
        print(f"luigi: there is no module '{error.name}'; this pipeline's is: --module pipeline", file=sys.stderr)
        sys.exit(UNKNOWN_TASK)
    except SystemExit as end:
        if end.code != "No task specified":
            raise
        print("luigi: no task is given; `pipeline tasks` lists those of this pipeline, with examples", file=sys.stderr)
        sys.exit(NO_TASK)
    except TaskClassNotFoundException:
        if any(argument.partition("=")[0] == "--module" for argument in arguments):
            raise
        line = shlex.join(["luigi", "--module", "pipeline", *arguments])
        print(f"luigi: which module is this task in? For this pipeline's: {line}", file=sys.stderr)
        sys.exit(UNKNOWN_TASK)


def _modules(arguments: list[str]) -> list[str]:
    values = [word.partition("=")[2] for word in arguments if word.startswith("--module=")]
    return values + [value for word, value in itertools.pairwise(arguments) if word == "--module"]
