"""Cron expressions, with the meaning that they have in crontab(5), and time zones."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LAST = "last"  # the last day of a month, which crontab(5) has no name for
# Each field's name, its first and last number, and the numbers that have names.
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {_LAST: 31}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("weekday", 0, 7, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
_PART = re.compile(r"(?:\*|(?P<first>[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?")
_DAY = datetime.timedelta(days=1)


def parse_cron(expression: str) -> list[set[int]]:
    """Returns the minutes, hours, days, months and weekdays of a cron expression; Sunday is 0 or 7.

    :raises ValueError: if this is not a cron expression of five fields with numbers in their ranges.
    """
    fields = expression.lower().split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"'{expression}' has {len(fields)} fields, not minute, hour, day, month and weekday")
    found = [set[int]() for _ in _FIELDS]
    for text, numbers, (name, least, most, names) in zip(fields, found, _FIELDS, strict=True):
        for part in text.split(","):
            if not (of_part := _numbers(part, least, most, names)):
                raise ValueError(f"'{expression}': the {name} '{part}' is not from {least} to {most}")
            numbers.update(of_part)
    return found


def _numbers(part: str, least: int, most: int, names: Mapping[str, int]) -> range:
    """Returns the numbers of a part of a field; none if it is invalid."""
    if not (found := _PART.fullmatch(part)):
        return range(0)
    first, last, step = found["first"] or str(least), found["last"], found["step"]
    if last is None:
        last = first if found["first"] and not step else str(most)
    try:
        start, end, by = (int(names.get(word, word)) for word in (first, last, step or "1"))
    except ValueError:
        return range(0)
    return range(start, end + 1, by) if least <= start <= end <= most and 0 < by <= most - least else range(0)


def firings(
    cron: str, timezone: str, since: datetime.datetime, until: datetime.datetime
) -> Iterator[datetime.datetime]:
    """Yields the times from `since` until before `until` at which cron would fire, in the time zone, in order.

    A time that is skipped when daylight saving time begins fires an hour later; one that is repeated fires twice.
    """
    zone, (minutes, hours, *_) = time_zone(timezone), parse_cron(cron)
    day, last = (at.astimezone(zone).date() for at in (since, until))
    while day <= last:
        times = set[datetime.datetime]()
        for hour, minute in itertools.product(hours, minutes) if _fires_on(cron, day) else ():
            local = datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
            first, second = (local.replace(fold=fold).astimezone(datetime.UTC) for fold in (0, 1))
            times |= {first, max(first, second)}  # of a skipped time, the second is earlier and does not count
        yield from (at.astimezone(zone) for at in sorted(times) if since <= at < until)
        day += _DAY


def _fires_on(cron: str, day: datetime.date) -> bool:
    """Returns whether cron fires on a day; if both fields for days are restricted, either is enough."""
    (_, _, days, months, weekdays), (_, _, of_month, _, of_week) = parse_cron(cron), cron.lower().split()
    is_last = _LAST in of_month.split(",") and (day + _DAY).day == 1
    matches = day.day in days or is_last, day.isoweekday() in weekdays or day.isoweekday() % 7 in weekdays
    return day.month in months and (all if of_month[0] == "*" or of_week[0] == "*" else any)(matches)


def time_zone(name: str) -> ZoneInfo:
    """Returns the time zone of that name.

    :raises ValueError: if there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"'{name}' is no time zone such as America/New_York") from None


def check_time_zone(name: str) -> None:
    """:raises ValueError: if there is no such time zone; not on a machine without any, as only schedules need them."""
    try:
        time_zone(name)
    except ValueError:
        if _has_time_zones():
            raise


def _has_time_zones() -> bool:
    try:
        time_zone("UTC")
    except ValueError:
        return False
    return True
