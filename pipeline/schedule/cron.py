"""Cron expressions as crontab(5) means them, on APScheduler's triggers, which mean two things otherwise."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from pipeline.datasets import Schedule

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAY_STEP = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")
_INSTANT = datetime.timedelta(microseconds=1)


def cron_trigger(schedule: Schedule) -> BaseTrigger:
    """The trigger that fires when cron would, by the clocks of the schedule's time zone.

    What the clocks skip in spring fires an hour later; what they repeat in autumn fires twice.

    :raises ValueError: when the expression or the time zone means nothing.
    """
    minute, hour, day, month, weekday = _fields(schedule.cron)
    when = {"minute": minute, "hour": hour, "month": month, "timezone": _zone(schedule.timezone)}
    weekdays = _weekdays(weekday)
    if day.startswith("*") or weekday.startswith("*"):
        return CronTrigger(day=day, day_of_week=weekdays, **when)
    # Cron fires when either fits, if both are restricted.
    return OrTrigger([CronTrigger(day=day, **when), CronTrigger(day_of_week=weekdays, **when)])


def firings(trigger: BaseTrigger, since: datetime.datetime, until: datetime.datetime) -> Iterator[datetime.datetime]:
    """When the trigger fires from `since` on and before `until`, in its time zone, in order."""
    at = trigger.get_next_fire_time(None, since)
    while at is not None and at.astimezone(datetime.UTC) < until:
        instant = at.astimezone(datetime.UTC)
        # By way of UTC, as 2:30 is no time at all on a night when the clocks skip it.
        yield instant.astimezone(at.tzinfo)
        at = trigger.get_next_fire_time(None, instant + _INSTANT)


def shown(at: datetime.datetime) -> str:
    """The time as a clock shows it, with its distance from UTC, such as `2026-03-01 09:00 -05:00 EST`."""
    return f"{at:%Y-%m-%d %H:%M} {at.isoformat()[-6:]} {at:%Z}"


def _fields(expression: str) -> list[str]:
    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"'{expression}' has {len(fields)} fields, not minute, hour, day, month and weekday")
    return fields


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"'{name}' is no time zone such as America/New_York") from None


def _weekdays(field: str) -> str:
    """The weekdays by name: cron counts from Sunday, as 0 or 7, and APScheduler from Monday."""
    days: list[str] = []
    for part in field.lower().split(","):
        found = _WEEKDAY_STEP.fullmatch(part)
        if not found:
            raise ValueError(f"'{part}' is no weekday")
        first, last = ("0", "6") if found["first"] == "*" else (found["first"], found["last"] or found["first"])
        numbers = range(_weekday(first), _weekday(last) + 1, int(found["step"] or 1))
        if not numbers:
            raise ValueError(f"'{part}' names no weekday")
        days += [_WEEKDAYS[number % 7] for number in numbers]
    return ",".join(days)


def _weekday(name: str) -> int:
    if name in _WEEKDAYS:
        return _WEEKDAYS.index(name)
    if name.isdecimal() and int(name) <= 7:
        return int(name)
    raise ValueError(f"'{name}' is no weekday")
