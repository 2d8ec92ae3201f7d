"""What a pass over a whole release file finds: how many rows it has, and how many of them lie in its month."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.datasets import Release, format_month


@dataclass
class Survey:
    """`months` counts rows by the month of their event time (such as `2020-04`) as far as that was looked at."""

    rows: int = 0
    rows_in_month: int = 0
    months: Counter[str] = field(default_factory=Counter)

    def wrong_month(self, release: Release) -> str | None:
        """What is wrong with the months of the rows, None where enough of them lie in the release's own."""
        if not release.month or self.rows_in_month >= self.rows * release.dataset.month_share:
            return None
        found = f"{self.rows_in_month:,} of {self.rows:,} rows lie in {format_month(release.month)}"
        fullest = self.months.most_common(1)
        return found + (f", {fullest[0][1]:,} in {fullest[0][0]}" if fullest else "")
