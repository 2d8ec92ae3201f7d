"""`make faults`: random trials, a table of how many held, and the seed of each that did not."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from faults.trials import TRIALS
from faults.world import World
from pipeline.warehouses.postgres.embedded import stop

_TRIALS_A_WORLD = 25  # then a new storage root, so that a trial's seed is cheap to run again


def main() -> int:
    """Runs the campaign; returns 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="which campaign: the same seed gives the same trials")
    parser.add_argument("--only", choices=list(TRIALS), help="this kind of trial only")
    parser.add_argument("--minutes", type=float, default=120, help="stop after this long, whatever was asked for")
    arguments = parser.parse_args()
    held, failed = Counter[str](), Counter[str]()
    deadline = time.monotonic() + arguments.minutes * 60
    for start in range(arguments.seed, arguments.seed + arguments.trials, _TRIALS_A_WORLD):
        folder = Path(tempfile.mkdtemp(prefix="pipeline-faults-"))
        world = World(folder, random.Random(start))
        try:
            for seed in range(start, min(start + _TRIALS_A_WORLD, arguments.seed + arguments.trials)):
                if time.monotonic() > deadline:
                    break
                world.chance = random.Random(seed)
                kind = arguments.only or world.chance.choice(list(TRIALS))
                wrong = TRIALS[kind](world)
                (failed if wrong else held)[kind] += 1
                for line in wrong:
                    print(f"seed {seed} ({kind}): {line}", flush=True)
        finally:
            stop(world.root / "postgres")
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{'trial':<16} {'run':>5} {'held':>5} {'failed':>7}")
    for kind in TRIALS:
        print(f"{kind:<16} {held[kind] + failed[kind]:>5} {held[kind]:>5} {failed[kind]:>7}")
    print(f"{'all':<16} {held.total() + failed.total():>5} {held.total():>5} {failed.total():>7}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
