"""The trials on Google Cloud: the real commands run against both emulators, each trial in a project of its own."""

from __future__ import annotations

import datetime
import time
from typing import Any

from gcp import new_google_cloud

from faults.commands import Command
from faults.invariants import violated
from faults.world import MONTHS, World

_CHANGE, _JOB = "^(POST|PUT|PATCH|DELETE) ", "^(RUN|STEP) tlc_"
_CONFLICT = "Transaction is aborted due to concurrent update against table t"
_RESPONSES: tuple[dict[str, Any], ...] = (
    {"response_lost": True},
    {"request_dropped": True},
    {"status": 500},
    {"status": 503},
    {"status": 429, "reason": "rateLimitExceeded"},
    {"status": 403, "reason": "accessDenied", "message": "Access Denied: no"},
    {"status": 404, "reason": "notFound", "message": "Not found: it"},
)
_JOB_FAILURES: tuple[dict[str, Any], ...] = (
    {"status": 500, "reason": "backendError"},
    {"status": 400, "reason": "invalidQuery", "message": _CONFLICT},
    {"status": 403, "reason": "accessDenied", "message": "Access Denied: no"},
    {"status": 404, "reason": "notFound", "message": "Not found: it"},
)


def killed(world: World) -> list[str]:
    """kill -9 of a load, a forced load or a `forget` before one of its requests, or while one of its jobs runs."""
    [month] = _begin(world, 1)
    process: list[Command] = []
    command, request = _command(world, month), world.chance.choice((_CHANGE, _CHANGE, _JOB))
    dropped = request == _CHANGE and world.chance.random() < 0.5
    _wire(world).inject(
        request, skip=world.chance.randint(0, 16), request_dropped=dropped, action=lambda: process[0].kill()
    )
    process.append(world.start(*command))
    process[0].outcome()
    return violated(world, at_rest=False) + _recover(world, month)


def lost_answers(world: World) -> list[str]:
    """Lost responses, error responses and failed jobs at any request of a load or a `forget`."""
    [month] = _begin(world, 1)
    for _ in range(world.chance.randint(1, 4)):
        request = world.chance.choice((_CHANGE, "^GET ", _JOB))
        fault = world.chance.choice(_JOB_FAILURES if request == _JOB else _RESPONSES)
        times = world.chance.choice((1, 1, 1, 3))
        _wire(world).inject(request, skip=world.chance.randint(0, 14), times=times, **fault)
    outcome = world.run(*_command(world, month))
    violations = [] if outcome.is_explained else [f"exit code {outcome.code}: {outcome.output[-1500:]}"]
    return violations + violated(world, at_rest=False) + _recover(world, month)


def at_once(world: World) -> list[str]:
    """Several loads and `forget`s of two months at the same time, some of which are killed."""
    months = _begin(world, 2)
    started, violations = [], []
    for _ in range(world.chance.randint(2, 3)):
        process = world.start(*_command(world, world.chance.choice(months)))
        started.append((process, world.chance.choice((None, None, world.chance.uniform(1, 5)))))
        time.sleep(world.chance.uniform(0, 0.5))
    for process, seconds in started:
        if seconds is None:
            outcome = process.outcome()
            violations += [] if outcome.is_explained else [f"exit code {outcome.code}: {outcome.output[-1500:]}"]
            continue
        time.sleep(seconds)
        process.kill()
        process.outcome()
    return violations + violated(world, at_rest=False) + _recover(world, *months)


def _begin(world: World, months: int) -> list[datetime.date]:
    """Creates a project and publishes new editions of some months, of which earlier editions may be loaded already."""
    world.cloud = new_google_cloud(world.emulators)
    chosen = world.chance.sample(MONTHS, months)
    failures: list[str] = []
    for month in chosen:
        world.publish(month, world.chance.randint(20, 200), repeated=world.chance.choice((0, 0, 3)))
        if world.chance.random() < 0.6:
            outcome = world.run(*world.load(month))
            failures += [] if outcome.code == 0 else [outcome.output]
            world.publish(month, world.chance.randint(20, 200), repeated=world.chance.choice((0, 0, 3)))
    assert not failures, failures
    return chosen


def _command(world: World, month: datetime.date) -> tuple[str, ...]:
    return world.chance.choice([world.load(month), world.load(month, "--force"), world.forget(month)])


def _wire(world: World) -> Any:
    return world.emulators.wire


def _recover(world: World, *months: datetime.date) -> list[str]:
    """Loads the months as a user would after a fault; returns what does not hold then, when all must be complete."""
    assert world.cloud
    _wire(world).incidents.clear()
    violations = []
    for month in months:
        outcome = world.run(*world.load(month, "--force"))
        if outcome.code != 0:
            violations.append(f"the next run exits with {outcome.code}: {outcome.output[-1500:]}")
    for month in months:
        name = world.release(month).filename
        counts = world.cloud.rows(f"SELECT COUNT(*) FROM green_tripdata WHERE filename = '{name}'")
        violations += [] if counts == [(world.rows[month],)] else [f"{name}: {counts} rows, not {world.rows[month]}"]
    if world.chance.random() < 0.15:
        reconciled = world.run(*world.task("ReconcileTripdata", months[0]))
        violations += [] if reconciled.code == 0 else [f"PostgreSQL has other rows: {reconciled.output[-1500:]}"]
    return violations + violated(world, at_rest=True)
