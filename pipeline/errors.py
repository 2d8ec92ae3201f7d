"""The exceptions that users are meant to read, in two kinds: what will fail again, and what may not."""

from __future__ import annotations

INTERRUPTED = 130  # the exit code by which a shell reports a command that ctrl-C has ended


class PipelineError(Exception):
    """A failure explained in one line: what happened, where, and what to do next. Trying again alone does not help.

    Tasks log it without a traceback; anything else that escapes a task is a bug and keeps its traceback.
    """


class TransientError(PipelineError):
    """A failure that may be gone the next time, with nothing changed: a lost connection, a service that is down."""
