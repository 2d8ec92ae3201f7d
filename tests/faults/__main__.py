"""`make faults`: random trials, a table of how many held, and the seed of each that did not."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from gcp import emulators
from gcp_emulator.analyzer import evaluate

from faults.trials import TRIALS, WEIGHTS
from faults.world import World
from pipeline.warehouses.postgres.embedded import stop


def main() -> int:
    """Runs the campaign; returns 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="the first trial's; each next one has the next number")
    parser.add_argument("--only", choices=list(TRIALS), help="this kind of trial only")
    parser.add_argument("--minutes", type=float, default=120, help="stop after this long, whatever was asked for")
    arguments = parser.parse_args()
    held, failed = Counter[str](), Counter[str]()
    deadline = time.monotonic() + arguments.minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="pipeline-faults-"))
    with emulators() as google:
        os.environ.update(google.environment)
        evaluate("SELECT 1")  # its first call on a machine compiles for a minute or so, which no trial is to wait for
        world = World(folder, google)
        try:
            for seed in range(arguments.seed, arguments.seed + arguments.trials):
                if time.monotonic() > deadline:
                    break
                began = time.monotonic()
                kind, wrong = _trial(world, seed, arguments.only)
                (failed if wrong else held)[kind] += 1
                became = "FAILED" if wrong else "held"
                print(
                    f"seed {seed} ({kind}): {became}, {time.monotonic() - began:.1f} s", *wrong, sep="\n  ", flush=True
                )
        finally:
            stop(world.root / "postgres")
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{'trial':<16} {'run':>5} {'held':>5} {'failed':>7}")
    for kind in TRIALS:
        print(f"{kind:<16} {held[kind] + failed[kind]:>5} {held[kind]:>5} {failed[kind]:>7}")
    print(f"{'all':<16} {held.total() + failed.total():>5} {held.total():>5} {failed.total():>7}")
    return 1 if failed else 0


def _trial(world: World, seed: int, only: str | None) -> tuple[str, list[str]]:
    """The kind of a trial, and what did not hold in it."""
    world.begin(seed)
    [drawn] = world.chance.choices(list(TRIALS), [WEIGHTS.get(kind, 1) for kind in TRIALS])
    kind = only or drawn
    try:
        return kind, TRIALS[kind](world)
    except Exception:
        return kind, ["the trial itself failed", traceback.format_exc()]


if __name__ == "__main__":
    sys.exit(main())
