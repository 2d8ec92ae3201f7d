"""Lets Luigi's RangeMonthly ask a warehouse once what is loaded, instead of once for each month."""

from __future__ import annotations

import datetime

from luigi.tools.range import RangeMonthly


def register_range() -> None:
    """Gives RangeMonthly and its subclasses a check of all months at once.

    In place, because Luigi would find the name ambiguous if a subclass had it too.
    """
    RangeMonthly.missing_datetimes = _missing_datetimes  # type: ignore[assignment,method-assign]


def _missing_datetimes(self: RangeMonthly, finite_datetimes: list[datetime.datetime]) -> list[datetime.datetime]:
    """Returns the months whose tasks are not complete, by the task's own `complete_among` if it has one."""
    tasks = [self._instantiate_task_cls(self.datetime_to_parameter(moment)) for moment in finite_datetimes]
    complete_among = getattr(self.of_cls, "complete_among", None)
    complete = set(complete_among(tasks) if complete_among else (task for task in tasks if task.complete()))
    return [moment for moment, task in zip(finite_datetimes, tasks, strict=True) if task not in complete]
