"""`pipeline schedule`: catches up with each dataset when its schedule says so, or once, or shows when it would."""

from __future__ import annotations

import datetime
import logging
from zoneinfo import ZoneInfo

from pipeline.errors import PipelineError
from pipeline.schedule.cron import firings, shown
from pipeline.schedule.daemon import run_forever
from pipeline.schedule.plan import CatchUp, catch_ups
from pipeline.schedule.runner import Runner
from pipeline.settings import ScheduleSettings

_YEAR = datetime.timedelta(days=365)


def run(taxis: list[str] | None, once: bool, dry_run: bool, since: str | None, until: str | None) -> int:
    """Returns 0 when the schedule was asked to stop, and with `once` the highest of the exit codes of `Runner.run`.

    :raises PipelineError: when a dataset has no schedule, a schedule or a date means nothing.
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
    """Prints what would fire from `since` on and before `until`, which are read in each dataset's time zone."""
    found = []
    for catch_up in planned:
        start = _instant(since, catch_up) if since else datetime.datetime.now(datetime.UTC)
        end = _instant(until, catch_up) if until else start + _YEAR
        if end <= start:
            raise PipelineError("--to must be after --from")
        found += [(at, catch_up) for at in firings(catch_up.trigger, start, end)]
    for at, catch_up in sorted(found, key=lambda pair: pair[0].astimezone(datetime.UTC)):
        print(f"{shown(at)}  {catch_up.name:<8} {catch_up.task}")
    return 0


def _instant(text: str, catch_up: CatchUp) -> datetime.datetime:
    assert catch_up.spec.schedule
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise PipelineError(f"'{text}' is not a date such as 2026-01-01, or a time such as 2026-01-01T09:00") from None
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(catch_up.spec.schedule.timezone))
