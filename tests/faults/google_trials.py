"""The trials on Google Cloud: the real commands against both emulators, in a project of a trial's own."""

from __future__ import annotations

import datetime
import time
from typing import Any

from gcp import new_google_cloud

from faults.commands import Command
from faults.invariants import broken
from faults.world import MONTHS, World

_CHANGE, _JOB = "^(POST|PUT|PATCH|DELETE) ", "^(RUN|STEP) tlc_"
_CONFLICT = "Transaction is aborted due to concurrent update against table t"
_ANSWERS: tuple[dict[str, Any], ...] = (
    {"lost": True},
    {"dropped": True},
    {"status": 500},
    {"status": 503},
    {"status": 429, "reason": "rateLimitExceeded"},
    {"status": 403, "reason": "accessDenied", "message": "Access Denied: no"},
    {"status": 404, "reason": "notFound", "message": "Not found: it"},
)
_FAILURES: tuple[dict[str, Any], ...] = (
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
    lost = request == _CHANGE and world.chance.random() < 0.5
    _wire(world).happens(request, after=world.chance.randint(0, 16), dropped=lost, meanwhile=lambda: process[0].kill())
    process.append(world.start(*command))
    process[0].outcome()
    return broken(world, at_rest=False) + _recover(world, month)


def lost_answers(world: World) -> list[str]:
    """Answers that are lost, wrong or failures, and jobs that fail, at any request of a load or a `forget`."""
    [month] = _begin(world, 1)
    for _ in range(world.chance.randint(1, 4)):
        request = world.chance.choice((_CHANGE, "^GET ", _JOB))
        what = world.chance.choice(_FAILURES if request == _JOB else _ANSWERS)
        times = world.chance.choice((1, 1, 1, 3))
        _wire(world).happens(request, after=world.chance.randint(0, 14), times=times, **what)
    outcome = world.run(*_command(world, month))
    wrong = [] if outcome.is_explained else [f"exit code {outcome.code}: {outcome.output[-1500:]}"]
    return wrong + broken(world, at_rest=False) + _recover(world, month)


def at_once(world: World) -> list[str]:
    """Several loads and `forget`s of two months at the same time, some of them killed."""
    months = _begin(world, 2)
    started, wrong = [], []
    for _ in range(world.chance.randint(2, 3)):
        process = world.start(*_command(world, world.chance.choice(months)))
        started.append((process, world.chance.choice((None, None, world.chance.uniform(1, 5)))))
        time.sleep(world.chance.uniform(0, 0.5))
    for process, patience in started:
        if patience is None:
            outcome = process.outcome()
            wrong += [] if outcome.is_explained else [f"exit code {outcome.code}: {outcome.output[-1500:]}"]
            continue
        time.sleep(patience)
        process.kill()
        process.outcome()
    return wrong + broken(world, at_rest=False) + _recover(world, *months)


def _begin(world: World, months: int) -> list[datetime.date]:
    """A new project, with some months loaded, and new editions of those that the trial is about."""
    world.cloud = new_google_cloud(world.emulators)
    chosen = world.chance.sample(MONTHS, months)
    wrong: list[str] = []
    for month in chosen:
        world.publish(month, world.chance.randint(20, 200), repeated=world.chance.choice((0, 0, 3)))
        if world.chance.random() < 0.6:
            outcome = world.run(*world.load(month))
            wrong += [] if outcome.code == 0 else [outcome.output]
            world.publish(month, world.chance.randint(20, 200), repeated=world.chance.choice((0, 0, 3)))
    assert not wrong, wrong
    return chosen


def _command(world: World, month: datetime.date) -> tuple[str, ...]:
    return world.chance.choice([world.load(month), world.load(month, "--force"), world.forget(month)])


def _wire(world: World) -> Any:
    return world.emulators.wire


def _recover(world: World, *months: datetime.date) -> list[str]:
    """Loads the months as anybody would after a fault; all of them must be there then, whole."""
    assert world.cloud
    _wire(world).incidents.clear()
    wrong = []
    for month in months:
        outcome = world.run(*world.load(month, "--force"))
        if outcome.code != 0:
            wrong.append(f"the next run exits with {outcome.code}: {outcome.output[-1500:]}")
    for month in months:
        name = world.release(month).filename
        counts = world.cloud.rows(f"SELECT COUNT(*) FROM green_tripdata WHERE filename = '{name}'")
        wrong += [] if counts == [(world.rows[month],)] else [f"{name}: {counts} rows, not {world.rows[month]}"]
    if world.chance.random() < 0.15:
        same = world.run(*world.task("ReconcileTripdata", months[0]))
        wrong += [] if same.code == 0 else [f"not as in PostgreSQL: {same.output[-1500:]}"]
    return wrong + broken(world, at_rest=True)
