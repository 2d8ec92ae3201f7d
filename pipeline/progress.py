"""The interface through which long-running work reports its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called repeatedly with the amount done so far, and the total amount or None if it is unknown."""

    def __call__(self, done: int, total: int | None) -> None: ...


def silent(done: int, total: int | None) -> None:
    """Ignores the progress."""
