"""`pipeline schedule`: loads missing months on schedule or once, or prints the scheduled times."""

from __future__ import annotations

import datetime
import logging
from zoneinfo import ZoneInfo

from pipeline.errors import PipelineError
from pipeline.schedule.cron import firings, format_time
from pipeline.schedule.daemon import run_forever
from pipeline.schedule.plan import CatchUp, catch_ups
from pipeline.schedule.runner import Runner
from pipeline.settings import ScheduleSettings

_YEAR = datetime.timedelta(days=365)


def run(taxis: list[str] | None, once: bool, dry_run: bool, since: str | None, until: str | None) -> int:
    """Returns 0 when the schedule has been stopped; with `once`, the highest exit code of the catch-ups.

    :raises PipelineError: if a dataset has no schedule, or if a schedule or date is invalid.
    """
    if (since or until) and not dry_run:
        raise PipelineError("--from and --to need --dry-run")
    settings = ScheduleSettings()
    planned = catch_ups(taxis, settings.task, settings.parameters, settings.start, settings.workers)
    if dry_run:
        return _show(planned, since, until)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s: %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    runner = Runner(settings.folder())
    if once:
        return max(runner.run(catch_up) for catch_up in planned)
    run_forever(planned, runner, settings.retry_minutes)
    return 0


def _show(planned: list[CatchUp], since: str | None, until: str | None) -> int:
    """Prints the scheduled times from `since` until before `until`, which are in the time zone of each dataset."""
    found = []
    for catch_up in planned:
        start = _parse_time(since, catch_up) if since else datetime.datetime.now(datetime.UTC)
        end = _parse_time(until, catch_up) if until else start + _YEAR
        if end <= start:
            raise PipelineError("--to must be after --from")
        found += [(at, catch_up) for at in firings(catch_up.trigger, start, end)]
    for at, catch_up in sorted(found, key=lambda pair: pair[0].astimezone(datetime.UTC)):
        print(f"{format_time(at)}  {catch_up.name:<8} {catch_up.task}")
    return 0


def _parse_time(text: str, catch_up: CatchUp) -> datetime.datetime:
    assert catch_up.spec.schedule
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise PipelineError(f"'{text}' is not a date such as 2026-01-01, or a time such as 2026-01-01T09:00") from None
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(catch_up.spec.schedule.timezone))
