"""A Luigi task that has nothing to do, to measure the cost of starting and stopping Luigi."""

from __future__ import annotations

import luigi


class Empty(luigi.Task):
    """A task that is always complete."""

    def complete(self) -> bool:
        return True
