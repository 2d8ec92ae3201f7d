"""What somebody may have meant who misspelt a word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALIKE = 0.7


def nearest(word: str, known: Iterable[str], phrase: str, start: str = "") -> str:
    """The phrase with the known word that is most like the given one in the place of `{}`; empty where none is.

    >>> nearest("LoadTripdat", ["LoadTripdata", "LoadZones"], "did you mean {}?")
    'did you mean LoadTripdata?'
    """
    spellings = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), spellings, n=1, cutoff=_ALIKE)
    return start + phrase.format(spellings[found[0]]) if found else ""
