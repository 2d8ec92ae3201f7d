"""Settings of logs."""

from __future__ import annotations

import sys

import luigi

from pipeline.settings.section import Section


class logs(Section):
    """What a run writes about itself."""

    format: str = luigi.ChoiceParameter(
        default="plain",
        choices=("plain", "json", "auto"),
        description="what standard error gets: plain, json, or auto: json where it is not a terminal",
    )
    keep_days: int = luigi.IntParameter(default=30, description="days after which a run's log is removed")

    def as_json(self) -> bool:
        """Whether standard error gets JSON in this process."""
        return self.format == "json" or (self.format == "auto" and not sys.stderr.isatty())
