"""The `pipeline` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import psycopg2

from pipeline.command_line import WrongCommandLine
from pipeline.errors import INTERRUPTED, PipelineError
from pipeline.options import command_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors are printed in one line, with the exit code 1."""
    try:
        return _run(argv)
    except PipelineError as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 1
    except psycopg2.Error as error:
        print(f"pipeline: PostgreSQL says: {error.diag.message_primary or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pipeline: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has exited, as `head` does. Prevents a second error when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"pipeline: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", file=sys.stderr)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    parser = command_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.takes_more:
        arguments.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        code = int(arguments.run(arguments))
    except WrongCommandLine as error:
        parser.exit(error.code, f"{arguments.parser.prog}: {error}\n")
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
