"""Triggers for cron expressions with the semantics of crontab(5), from which APScheduler differs in two points."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from pipeline.datasets import Schedule
from pipeline.datasets.cron import WEEKDAYS, time_zone

_INSTANT = datetime.timedelta(microseconds=1)


def cron_trigger(schedule: Schedule) -> BaseTrigger:
    """Returns a trigger that fires when cron would, in the schedule's time zone.

    A time that is skipped when daylight saving time begins fires an hour later; one that is repeated fires twice.

    :raises ValueError: if this machine does not have the time zone.
    """
    minute, hour, day, month, weekday = schedule.cron.split()
    when = {"minute": minute, "hour": hour, "month": month, "timezone": time_zone(schedule.timezone)}
    weekdays = _weekdays(weekday)
    if day.startswith("*") or weekday.startswith("*"):
        return CronTrigger(day=day, day_of_week=weekdays, **when)
    # If both day fields are restricted, cron fires when either matches.
    return OrTrigger([CronTrigger(day=day, **when), CronTrigger(day_of_week=weekdays, **when)])


def firings(trigger: BaseTrigger, since: datetime.datetime, until: datetime.datetime) -> Iterator[datetime.datetime]:
    """Yields the times from `since` until before `until` at which the trigger fires, in its time zone, in order."""
    at = trigger.get_next_fire_time(None, since)
    while at is not None and at.astimezone(datetime.UTC) < until:
        instant = at.astimezone(datetime.UTC)
        # Converted from UTC, because the trigger may return a local time that daylight saving time skips.
        yield instant.astimezone(at.tzinfo)
        at = trigger.get_next_fire_time(None, instant + _INSTANT)


def format_time(at: datetime.datetime) -> str:
    """Formats a local time with its UTC offset, such as `2026-03-01 09:00 -05:00 EST`."""
    return f"{at:%Y-%m-%d %H:%M} {at.isoformat()[-6:]} {at:%Z}"


def _weekdays(field: str) -> str:
    """Returns the weekdays by name, because cron counts from Sunday (0 or 7) and APScheduler from Monday."""
    days: list[str] = []
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, _, last = "0-6".partition("-") if span == "*" else span.partition("-")
        numbers = range(_weekday(first), _weekday(last or first) + 1, int(step or 1))
        days += [WEEKDAYS[number % 7] for number in numbers]
    return ",".join(days)


def _weekday(name: str) -> int:
    return WEEKDAYS.index(name) if name in WEEKDAYS else int(name)
