"""How long work reports how far it is, without knowing who looks."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then with the amount done so far, and the whole amount where it is known."""

    def __call__(self, done: int, total: int | None) -> None: ...


def silent(done: int, total: int | None) -> None:
    """A progress that nobody looks at."""
