"""The errors that are shown to users, permanent and transient ones, and the wording of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = 130  # a shell's exit code for a command that was ended by Ctrl-C
_MIN_SIMILARITY = 0.7


class PipelineError(Exception):
    """An error whose message says in one line what happened, where, and what to do. A retry alone does not help.

    Tasks log it without a traceback. Any other exception in a task is a bug and is logged with its traceback.
    """


class TransientError(PipelineError):
    """An error for which a retry may succeed, such as a lost connection or an unavailable service."""


def nearest(word: str, known: Iterable[str], phrase: str, start: str = "") -> str:
    """Returns `phrase` with the known word that is most similar to `word`; empty if none is similar enough.

    >>> nearest("LoadTripdat", ["LoadTripdata", "LoadZones"], "did you mean {}?")
    'did you mean LoadTripdata?'
    """
    spellings = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), spellings, n=1, cutoff=_MIN_SIMILARITY)
    return start + phrase.format(spellings[found[0]]) if found else ""


def counted(number: float, noun: str) -> str:
    """Returns a whole number with its noun, such as `1 row` or `1,200 rows`."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def shortened(text: str, limit: int) -> str:
    """Returns the text, or if it is longer than `limit`, its first `limit` characters and an ellipsis."""
    return text if len(text) <= limit else f"{text[:limit]}…"
