"""What the dbt models in a warehouse were built from, in either warehouse."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Build:
    """What the models in a warehouse were last built from. No `finished_at`: they are being built, or it failed.

    An empty `models_digest`: a rebuild of everything was begun and not ended, so rows may be of any models.
    """

    models_digest: str
    loads_digest: str
    started_at: datetime.datetime
    finished_at: datetime.datetime | None = None

    def reflects(self, other: Build) -> bool:
        """Whether it is complete, and was made from the same models and the same loads."""
        same = (self.models_digest, self.loads_digest) == (other.models_digest, other.loads_digest)
        return same and self.finished_at is not None
