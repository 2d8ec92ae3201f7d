"""The one exception that users are meant to read."""

from __future__ import annotations


class PipelineError(Exception):
    """A failure explained in one line: what happened, where, and what to do next.

    Tasks log it without a traceback; anything else that escapes a task is a bug and keeps its traceback.
    """
