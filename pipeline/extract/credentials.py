"""URLs as they may be shown and stored."""

from __future__ import annotations

import re

# The second way is that of a password with a slash or the like in it as it is: what looks like a port is no number.
_USER = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#\s@\[]*:(?!\d*(?:[/?#\s'\"]|$))[^\s'\"]*@)")
_QUERY = re.compile(r"(?P<kept>\w+://[^\s?#'\"]*)[?#][^\s'\"]*")


def without_credentials(text: str) -> str:
    """The text with every URL in it as it may be shown: without a user's name and password, and without a query."""
    return _QUERY.sub(r"\g<kept>", _USER.sub("", text))
