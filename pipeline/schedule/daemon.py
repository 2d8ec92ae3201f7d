"""Runs catch-ups when they are due, including those that were missed while it did not run, until it is stopped."""

from __future__ import annotations

import datetime
import logging

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from pipeline.schedule.cron import firings, format_time
from pipeline.schedule.plan import CatchUp
from pipeline.schedule.runner import ALREADY_RUNNING, Runner

logger = logging.getLogger("pipeline.schedule")


def run_forever(catch_ups: list[CatchUp], runner: Runner, retry_minutes: float) -> None:
    """Runs until SIGTERM or ctrl-C, then finishes the months that are being loaded; a second signal ends it at once.

    Catch-ups run one at a time. Several missed firings, while the machine slept or this process did not run, cause a
    single catch-up. A failed catch-up is retried after `retry_minutes`.
    """
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone=datetime.UTC,
    )

    def fire(catch_up: CatchUp) -> None:
        code = runner.run(catch_up)
        if code not in (0, ALREADY_RUNNING) and retry_minutes > 0 and not runner.stopping:
            retry_at = datetime.datetime.now().astimezone() + datetime.timedelta(minutes=retry_minutes)
            logger.info("%s: trying again at %s", catch_up.name, format_time(retry_at))
            retry = f"{catch_up.name} again"
            scheduler.add_job(fire, "date", run_date=retry_at, args=[catch_up], id=retry, replace_existing=True)

    for catch_up in catch_ups:
        scheduler.add_job(fire, catch_up.trigger, args=[catch_up], id=catch_up.name, **_first_run(catch_up, runner))
    scheduler.start()
    for job in scheduler.get_jobs():
        logger.info("%s: next at %s", job.id, format_time(job.next_run_time))
    runner.wait_for_stop()
    scheduler.shutdown(wait=True)


def _first_run(catch_up: CatchUp, runner: Runner) -> dict[str, datetime.datetime]:
    """Returns the job's first run time: now if a firing has been missed since the last catch-up, else the default."""
    record, now = runner.record(catch_up), datetime.datetime.now(datetime.UTC)
    if (last := record.last_success()) is None:
        record.save_success(now)  # firings before the first start are not missed
    elif missed := next(firings(catch_up.trigger, last, now), None):
        logger.info("%s: the firing of %s was missed", catch_up.name, format_time(missed))
        return {"next_run_time": now}
    return {}
