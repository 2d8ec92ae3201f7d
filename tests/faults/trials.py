"""The trials: each causes a random fault, lets the pipeline recover, and returns the guarantees that do not hold."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import shutil
import signal
import time
from collections.abc import Callable

import psutil
from http_source import Fault, http_source

from faults import google_trials
from faults.commands import Outcome
from faults.invariants import violated
from faults.world import MONTHS, World
from pipeline.sample import write_zones

Trial = Callable[[World], list[str]]
_ALREADY_RUNNING = 10  # [retcode] in luigi.cfg
_RETRY_AFTER = ("-1", "x", "1e9", "Fri, 99 Foo 2099 00:00:00 GMT")
_SPECIAL_BYTES = (b'"', b"\\", b"\r", b"\n", b"\0", b",", b"\\.\n", b"NaN", b"now", b"\xff\xfe", b"-0")
_FILES_THAT_DIFFER = """
    SELECT filename, loaded.trips, quality.trips, quality.reported, modelled.trips, hours.trips, zones.trips
    FROM (SELECT filename, count(*) AS trips FROM green_tripdata GROUP BY 1) AS loaded
    FULL JOIN file_quality AS quality USING (filename)
    FULL JOIN (SELECT filename, count(*) AS trips FROM fact_trips GROUP BY 1) AS modelled USING (filename)
    FULL JOIN (SELECT filename, sum(trips) AS trips FROM trips_by_hour GROUP BY 1) AS hours USING (filename)
    FULL JOIN (SELECT filename, sum(trips) AS trips FROM int_zone_revenue_by_file GROUP BY 1) AS zones USING (filename)
    WHERE loaded.trips IS DISTINCT FROM quality.trips
        OR quality.reported IS DISTINCT FROM coalesce(modelled.trips, 0)
        OR modelled.trips IS DISTINCT FROM hours.trips OR modelled.trips IS DISTINCT FROM zones.trips
"""


def _recover(world: World, month: datetime.date, *options: str) -> list[str]:
    """Loads the month as a user would after a fault; returns what does not hold then, when it must be complete."""
    outcome = world.run(*world.load(month, *options))
    if outcome.code != 0:
        return [f"the next run exits with {outcome.code}: {outcome.output[-600:]}"]
    name = world.release(month).filename
    counts = world.query(f"SELECT count(*) FROM green_tripdata WHERE filename = '{name}'")
    violations = [] if counts == [(world.rows[month],)] else [f"{name}: {counts} rows, not {world.rows[month]}"]
    return violations + violated(world, at_rest=True)


def _publish_edition(world: World, month: datetime.date) -> None:
    world.publish(month, world.chance.randint(200, 4000), repeated=world.chance.choice((0, 0, 3)))


def _begin(world: World) -> datetime.date:
    """Publishes a new edition of a month, of which an earlier edition may be loaded already."""
    month = world.chance.choice(MONTHS)
    if world.chance.random() < 0.5:
        _publish_edition(world, month)
        if (outcome := world.run(*world.load(month))).code:
            raise AssertionError(outcome.output)
    _publish_edition(world, month)
    return month


def _unexplained(outcome: Outcome) -> list[str]:
    return [] if outcome.is_explained else [f"exit code {outcome.code}: {outcome.output[-1500:]}"]


def killed(world: World) -> list[str]:
    """kill -9 of a load, a forced load or a `forget`, at any moment."""
    month = _begin(world)
    command = world.chance.choice([world.load(month), world.load(month, "--force"), world.forget(month)])
    process = world.start(*command)
    time.sleep(world.chance.uniform(0.1, 1.6))
    process.kill()
    process.outcome()
    return violated(world, at_rest=False) + _recover(world, month, "--force")


def server_killed(world: World) -> list[str]:
    """kill -9 of the database server while a load is under way."""
    month = _begin(world)
    process = world.start(*world.load(month, "--force"))
    time.sleep(world.chance.uniform(0.3, 1.2))
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((world.root / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
    return _unexplained(process.outcome()) + violated(world, at_rest=False) + _recover(world, month, "--force")


def at_once(world: World) -> list[str]:
    """Several commands for one or two months at the same time."""
    months = world.chance.sample(MONTHS, 2)
    for month in months:
        _publish_edition(world, month)
    started = []
    for _ in range(world.chance.randint(2, 4)):
        month = world.chance.choice(months)
        command = world.chance.choice([world.load(month), world.load(month, "--force"), world.forget(month)])
        started.append(world.start(*command))
        time.sleep(world.chance.uniform(0, 0.4))
    outcomes = [process.outcome() for process in started]
    violations = [line for outcome in outcomes for line in _unexplained(outcome)] + violated(world, at_rest=False)
    return violations + [line for month in months for line in _recover(world, month, "--force")]


def hostile_site(world: World) -> list[str]:
    """A release site with wrong responses of all kinds; nothing wrong may be loaded."""
    month = _begin(world)
    release = world.release(month)
    path = release.path_in(release.source_named("mirror"))
    body = (world.mirror / path).read_bytes()
    cut = world.chance.randrange(len(body))
    faults = [
        Fault(status=world.chance.choice((403, 404, 429, 500, 503))),
        Fault(hang_up=True),
        Fault(cut_after=cut),
        Fault(stall_after=cut),
        Fault(headers={"Content-Length": str(len(body) + world.chance.randint(1, 99))}, cut_after=len(body)),
        Fault(chunked=True, cut_after=cut),
        Fault(headers={"Content-Range": "bytes 5-9/10"}),
        Fault(headers={"Retry-After": world.chance.choice(_RETRY_AFTER)}, status=503),
        Fault(headers={"Location": "http://[nowhere"}, status=302),
        Fault(headers={"Content-Encoding": "br"}),
    ]
    with http_source() as site:
        site.files[f"/{path}"] = world.chance.choice([body, body[:cut], b"<!DOCTYPE html><p>Sign in", b""])
        site.faults = world.chance.choices(faults, k=world.chance.randint(1, 4))
        world.base_url = site.url
        outcome = world.run(*world.load(month, "--force"))
        world.base_url = ""
    violations = _unexplained(outcome)
    if outcome.code == 0 and site.files[f"/{path}"] != body:
        violations.append("a wrong file was loaded")
    return violations + violated(world, at_rest=False) + _recover(world, month, "--force")


def damaged_file(world: World) -> list[str]:
    """Bytes of the CSV changed, cut, repeated or swapped: it is refused in one line, or every row is accounted for."""
    month = _begin(world)
    text, chance = bytearray(world.text_of(month)), world.chance
    for _ in range(chance.randint(1, 6)):
        at, size = chance.randrange(len(text)), chance.randint(1, 80)
        damage = chance.randrange(6)
        if damage == 0:
            text[at] = chance.randrange(256)
        elif damage == 1:
            del text[at : at + size]
        elif damage == 2:
            text[at:at] = text[at : at + size]
        elif damage == 3:
            text[at:at] = chance.choice(_SPECIAL_BYTES)
        elif damage == 4:
            header, *lines = text.split(b"\n")
            chance.shuffle(lines)
            text = bytearray(b"\n".join([header, *lines]))
        else:
            text += text[at:]
    packed = gzip.compress(bytes(text), 1)
    if chance.random() < 0.2:
        packed = packed[: chance.randrange(len(packed))]
    world.put(month, packed)
    options = ["--max-bad-rows", str(chance.choice((0, 0, 3, 1000)))]
    outcome = world.run(*world.load(month, "--force", *options))
    violations = [] if outcome.code in (0, 30) else [f"exit code {outcome.code}"]
    violations += _unexplained(outcome) + violated(world, at_rest=True)
    _publish_edition(world, month)
    return violations + _recover(world, month, "--force")


def damaged_storage(world: World) -> list[str]:
    """Files below the storage root are removed, truncated or replaced between two runs."""
    month, chance = _begin(world), world.chance
    files = [file for file in (world.root / "raw").rglob("*") if file.is_file()]
    for file in chance.sample(files, min(len(files), 3)):
        damage = chance.randrange(3)
        if damage == 0:
            file.unlink()
        elif damage == 1:
            os.truncate(file, chance.randint(0, file.stat().st_size))
        else:
            file.write_bytes(chance.randbytes(100))
    return (
        _unexplained(world.run(*world.load(month))) + violated(world, at_rest=False) + _recover(world, month, "--force")
    )


def damaged_server(world: World) -> list[str]:
    """The embedded server's files are removed, moved or copied while it runs, sometimes during a load."""
    month, chance = _begin(world), world.chance
    folder = world.root / "postgres"
    world.query("SELECT 1")
    process = world.start(*world.load(month)) if chance.random() < 0.5 else None
    time.sleep(chance.uniform(0, 1.5) if process else 0)
    damage = chance.choice(
        ("folder", "folder and its server", "socket", "record", "lock", "moved", "copied", "stopped")
    )
    server = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
    if damage.startswith("folder"):
        shutil.rmtree(folder, ignore_errors=True)
    elif damage == "moved":
        folder.rename(folder.with_name("away"))
        time.sleep(chance.uniform(0, 1))
        folder.with_name("away").rename(folder)
    elif damage == "copied":
        shutil.copytree(world.root, world.folder / "copy", ignore=lambda *_: [".s.PGSQL.5432"])
        shutil.rmtree(world.folder / "copy")
    elif damage == "stopped":
        world.run("pipeline", "stop")
    else:
        files = {"socket": ".s.PGSQL.5432", "record": "postmaster.pid", "lock": ".s.PGSQL.5432.lock"}
        (folder / files[damage]).unlink(missing_ok=True)
    violations = _unexplained(process.outcome()) if process else []
    if damage == "folder and its server":
        # The server notices within a minute. What it does then must not damage the next server.
        violations += _unexplained(world.run("pipeline", "status"))
        with contextlib.suppress(psutil.Error):
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
    return [f"{damage}: {line}" for line in violations + _recover(world, month, "--force")]


def models_killed(world: World) -> list[str]:
    """kill -9 of a build after months were loaded, replaced or removed; the next build brings the marts up to date."""
    month, violations = _begin_models(world)
    changes = [world.load(month, "--force"), world.load(world.chance.choice(MONTHS)), world.forget(month)]
    violations += _unexplained(world.run(*world.chance.choice(changes)))
    process = world.start("pipeline", "build")
    time.sleep(world.chance.uniform(1, 15))
    process.kill()
    process.outcome()
    return violations + _build(world)


def models_at_once(world: World) -> list[str]:
    """Builds, also by hand and of single models, beside loads; the next build brings the marts up to date."""
    month, violations = _begin_models(world)
    by_hand = ("pipeline", "dbt", "run")
    builds = [("pipeline", "build"), ("pipeline", "dbt", "build"), by_hand, (*by_hand, "--select", "tag:files")]
    loads = [world.load(month, "--force"), world.load(world.chance.choice(MONTHS)), world.forget(month)]
    started = []
    for command in (*world.chance.choices(builds, k=2), *world.chance.choices(loads, k=2), world.chance.choice(builds)):
        started.append(world.start(*command))
        time.sleep(world.chance.uniform(0, 3))
    if world.chance.random() < 0.3:
        world.chance.choice(started).kill()
    for process in started:
        process.outcome()  # a build may fail, for example if a month is removed while it is read
    return violations + _build(world)


def catch_ups(world: World) -> list[str]:
    """Catch-ups beside loads and new editions, some killed; later ones load every month and the newest editions."""
    month, violations = _begin_models(world)
    catch_up = ("pipeline", "schedule", "green", "--once")
    changes = [catch_up, world.load(month, "--force"), world.load(world.chance.choice(MONTHS)), world.forget(month)]
    started = [world.start(*catch_up)]
    for _ in range(world.chance.randint(1, 3)):
        time.sleep(world.chance.uniform(0, 4))
        _publish_edition(world, world.chance.choice(MONTHS))
        started.append(world.start(*world.chance.choice(changes)))
    if world.chance.random() < 0.5:
        time.sleep(world.chance.uniform(0, 8))
        world.chance.choice(started).kill()
    for process in started:
        process.outcome()
    # The first may load a file that was extracted before a later edition was published.
    for _ in range(2):
        outcome = _after_others(world, *catch_up)
        violations += [] if outcome.code == 0 else [f"a catch-up exits with {outcome.code}: {outcome.output[-1500:]}"]
    loaded = dict(world.query("SELECT filename, count(*) FROM green_tripdata GROUP BY 1"))
    for later in MONTHS[1:]:  # only the last three months are looked at again
        if (rows := loaded.get(world.release(later).filename)) != world.rows[later]:
            violations.append(f"{later:%Y-%m}: {rows} rows are loaded, the newest edition has {world.rows[later]}")
    current = world.run("pipeline", "report")
    violations += [] if "Did not run any tasks" in current.output else ["the report was out of date"]
    return violations + _build(world)


def _after_others(world: World, *command: str) -> Outcome:
    """Runs a command when no other catch-up runs any more: what a killed one has started runs to its end."""
    for _ in range(100):
        if (outcome := world.run(*command)).code != _ALREADY_RUNNING:
            break
        time.sleep(0.5)
    return outcome


def _begin_models(world: World) -> tuple[datetime.date, list[str]]:
    """Publishes an edition of every month and, in half of the trials, builds the models."""
    month = _begin(world)
    write_zones(world.mirror)
    for other in MONTHS:
        _publish_edition(world, other)
    return month, _unexplained(world.run("pipeline", "build")) if world.chance.random() < 0.5 else []


def _build(world: World) -> list[str]:
    built = world.run("pipeline", "build")
    violations = [] if built.code == 0 else [f"the next build exits with {built.code}: {built.output[-1500:]}"]
    if (differing := world.query(_FILES_THAT_DIFFER)) != []:
        violations.append(f"the marts do not contain what is loaded: {differing}")
    return violations + violated(world, at_rest=True)


TRIALS: dict[str, Trial] = {
    "killed": killed,
    "server killed": server_killed,
    "at once": at_once,
    "hostile site": hostile_site,
    "damaged file": damaged_file,
    "damaged storage": damaged_storage,
    "damaged server": damaged_server,
    "models killed": models_killed,
    "models at once": models_at_once,
    "catch-ups": catch_ups,
    "cloud killed": google_trials.killed,
    "cloud answers": google_trials.lost_answers,
    "cloud at once": google_trials.at_once,
}
WEIGHTS = {"models killed": 0.2, "models at once": 0.2, "catch-ups": 0.2, "damaged storage": 0.5}  # the others have 1
