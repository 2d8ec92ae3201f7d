"""Errors that users are meant to read, in two kinds: those that will occur again, and those that may not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = 130  # the exit code by which a shell reports a command that ctrl-C has ended
_ALIKE = 0.7


class PipelineError(Exception):
    """A failure explained in one line: what happened, where, and what to do next. Trying again alone does not help.

    Tasks log it without a traceback; anything else that escapes a task is a bug and keeps its traceback.
    """


class TransientError(PipelineError):
    """A failure that may be gone the next time, with nothing changed: a lost connection, a service that is down."""


def nearest(word: str, known: Iterable[str], phrase: str, start: str = "") -> str:
    """The phrase with the known word most similar to `word` in place of `{}`; empty when no word is similar enough.

    >>> nearest("LoadTripdat", ["LoadTripdata", "LoadZones"], "did you mean {}?")
    'did you mean LoadTripdata?'
    """
    spellings = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), spellings, n=1, cutoff=_ALIKE)
    return start + phrase.format(spellings[found[0]]) if found else ""
