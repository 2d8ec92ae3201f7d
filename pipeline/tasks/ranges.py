"""Luigi's RangeMonthly, which asks a warehouse once what is loaded instead of once for each month."""

from __future__ import annotations

import datetime

from luigi.tools.range import RangeMonthly

__all__ = ["RangeMonthly"]


def _missing_datetimes(self: RangeMonthly, finite_datetimes: list[datetime.datetime]) -> list[datetime.datetime]:
    """Returns the months whose tasks are not complete, by the task's own `complete_among` if it has one."""
    tasks = [self._instantiate_task_cls(self.datetime_to_parameter(moment)) for moment in finite_datetimes]
    complete_among = getattr(self.of_cls, "complete_among", None)
    complete = set(complete_among(tasks) if complete_among else (task for task in tasks if task.complete()))
    return [moment for moment, task in zip(finite_datetimes, tasks, strict=True) if task not in complete]


RangeMonthly.missing_datetimes = _missing_datetimes  # type: ignore[assignment,method-assign]
