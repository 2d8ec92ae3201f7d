"""Cron expressions, with the meaning that they have in crontab(5), and time zones."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

_FIELDS = "minute (0-59), hour (0-23), day of the month (1-31), month (1-12 or jan-dec) and weekday (0-7 or sun-sat)"


def check_cron(expression: str) -> None:
    """:raises ValueError: if this is not a cron expression of five fields with numbers in their ranges."""
    try:
        if len(expression.split()) != 5:  # CronSim would take a sixth one for seconds
            raise CronSimError("Wrong number of fields")
        CronSim(expression, datetime.datetime.min)
    except CronSimError as error:
        raise ValueError(f"'{expression}': {str(error).lower()}; a cron expression has {_FIELDS}") from None


def firings(cron: str, zone: ZoneInfo, since: datetime.datetime) -> Iterator[datetime.datetime]:
    """Returns the times from `since` on at which Debian's cron would fire in a time zone, in order.

    What is due in the hour that is skipped when daylight saving time begins fires after it; in the hour that is
    repeated when it ends, once, or twice if the expression has `*` as its hour or minute (Debian's cron(8)).
    """
    since = since.astimezone(datetime.UTC)  # times in the same zone would be compared without their UTC offsets
    times = CronSim(cron, (since - datetime.timedelta(microseconds=1)).astimezone(zone))
    return itertools.dropwhile(lambda at: at < since, times)  # `since` may be in the second of two repeated hours


def time_zone(name: str) -> ZoneInfo:
    """Returns the time zone of that name.

    :raises ValueError: if there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"'{name}' is not a time zone such as America/New_York") from None


def check_time_zone(name: str) -> None:
    """:raises ValueError: if there is no such time zone. Accepts any name if the machine has no time zones."""
    try:
        time_zone(name)
    except ValueError:
        if available_timezones():
            raise
