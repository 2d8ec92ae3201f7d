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
from pathlib import Path

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
        print(f"luigi: {unreadable_configuration(error)}", file=sys.stderr)
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


def unreadable_configuration(error: configparser.Error | UnicodeDecodeError) -> str:
    """Returns why importing Luigi could not read a configuration file, in one line that names the file."""
    reason = " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        reason = f"{_line_that_is_not_utf_8() or 'it'} is not UTF-8; save the file as UTF-8"
    elif "\\ufeff" in reason:
        reason += "; save the file as UTF-8 without a byte order mark"
    return f"a configuration file cannot be read: {reason}"


def _line_that_is_not_utf_8() -> str | None:
    parser = sys.modules["luigi.configuration.cfg_parser"].LuigiConfigParser
    for path in filter(Path.is_file, map(Path, parser._config_paths)):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"{path}, line {number}"
    return None


def _modules(arguments: list[str]) -> list[str]:
    values = [word.partition("=")[2] for word in arguments if word.startswith("--module=")]
    return values + [value for word, value in itertools.pairwise(arguments) if word == "--module"]
