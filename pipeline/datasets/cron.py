"""Checks cron expressions and time zones when a spec is read, for which importing a scheduler would take too long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from zoneinfo import ZoneInfo, available_timezones

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Each field's name, its first and last number, and the numbers that have names.
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {"last": 31}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("weekday", 0, 7, {name: number for number, name in enumerate(WEEKDAYS)}),
)
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>[0-9]+))?", re.ASCII)


def check_cron(expression: str) -> None:
    """:raises ValueError: if this is not a cron expression of five fields with numbers in their ranges."""
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"'{expression}' has {len(fields)} fields, not minute, hour, day, month and weekday")
    for text, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        for part in text.lower().split(","):
            if not _is_valid(part, least, most, names):
                raise ValueError(f"'{expression}': the {name} '{part}' is not from {least} to {most}")


def _is_valid(part: str, least: int, most: int, names: Mapping[str, int]) -> bool:
    found = _PART.fullmatch(part)
    if not found or (found["first"] == "*" and found["last"]):
        return False
    numbers = {name: str(number) for name, number in names.items()}
    first = str(least) if found["first"] == "*" else numbers.get(found["first"], found["first"])
    last = numbers.get(found["last"], found["last"]) if found["last"] else first
    if not (first.isdigit() and last.isdigit() and least <= int(first) <= int(last) <= most):
        return False
    return found["step"] is None or 0 < int(found["step"]) <= most - least


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
        if available_timezones():
            raise
