"""Runs the schedule: what is due, and what fell due while it did not run, until it is asked to stop."""

from __future__ import annotations

import datetime
import logging

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from pipeline.schedule.cron import firings, shown
from pipeline.schedule.plan import CatchUp
from pipeline.schedule.runner import ALREADY_RUNNING, Runner

logger = logging.getLogger("pipeline.schedule")


def run_forever(catch_ups: list[CatchUp], runner: Runner, retry_minutes: float) -> None:
    """Fires until SIGTERM or ctrl-C, then returns after the months that are being loaded; at a second one, at once.

    Catch-ups run one after the other. Several firings that a machine slept through are one, as are those that were
    due since the last catch-up while this did not run. A failed catch-up is tried again after `retry_minutes`.
    """
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone=datetime.UTC,
    )

    def fire(catch_up: CatchUp) -> None:
        code = runner.run(catch_up)
        if code not in (0, ALREADY_RUNNING) and retry_minutes > 0 and not runner.stopping:
            again = datetime.datetime.now().astimezone() + datetime.timedelta(minutes=retry_minutes)
            logger.info("%s: trying again at %s", catch_up.name, shown(again))
            retry = f"{catch_up.name} again"
            scheduler.add_job(fire, "date", run_date=again, args=[catch_up], id=retry, replace_existing=True)

    for catch_up in catch_ups:
        scheduler.add_job(fire, catch_up.trigger, args=[catch_up], id=catch_up.name, **_first_run(catch_up, runner))
    scheduler.start()
    for job in scheduler.get_jobs():
        logger.info("%s: next at %s", job.id, shown(job.next_run_time))
    runner.wait_for_stop()
    scheduler.shutdown(wait=True)


def _first_run(catch_up: CatchUp, runner: Runner) -> dict[str, datetime.datetime]:
    """When to run for the first time, if not at the next firing: now, if one was missed since the last catch-up."""
    record, now = runner.record(catch_up), datetime.datetime.now(datetime.UTC)
    if (last := record.last_success()) is None:
        record.save_success(now)  # nothing is missed before the schedule runs for the first time
    elif missed := next(firings(catch_up.trigger, last, now), None):
        logger.info("%s: the firing of %s was missed", catch_up.name, shown(missed))
        return {"next_run_time": now}
    return {}
