"""What loads into either warehouse have in common: which file, and on whose behalf."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from pipeline.datasets import DatasetSpec


@dataclass(frozen=True)
class FileJob:
    """One file to load, and the task that its marker is for."""

    task_family: str
    spec: DatasetSpec
    month: datetime.date | None

    @property
    def partition_key(self) -> str:
        return self.spec.partition_key(self.month)

    @property
    def filename(self) -> str:
        return self.spec.filename(self.month)
