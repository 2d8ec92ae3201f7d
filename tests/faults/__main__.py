"""`make faults`: runs random trials, and prints how many held and the seed of each that failed."""

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
    """Runs the trials; returns 1 if one failed."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=500, help="number of trials (default 500)")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the first trial; it increases by one with each trial (default 1)"
    )
    parser.add_argument("--only", choices=list(TRIALS), help="run only this kind of trial")
    parser.add_argument("--minutes", type=float, default=120, help="start no trial after this time (default 120)")
    arguments = parser.parse_args()
    held, failed = Counter[str](), Counter[str]()
    deadline = time.monotonic() + arguments.minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="pipeline-faults-"))
    with emulators() as google:
        os.environ.update(google.environment)
        evaluate("SELECT 1")  # its first call on a machine compiles for about a minute, for which no trial should wait
        world = World(folder, google)
        try:
            for seed in range(arguments.seed, arguments.seed + arguments.trials):
                if time.monotonic() > deadline:
                    break
                began = time.monotonic()
                kind, violations = _run_trial(world, seed, arguments.only)
                (failed if violations else held)[kind] += 1
                result = "FAILED" if violations else "held"
                seconds = time.monotonic() - began
                print(f"seed {seed} ({kind}): {result}, {seconds:.1f} s", *violations, sep="\n  ", flush=True)
        finally:
            stop(world.root / "postgres")
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{'trial':<16} {'run':>5} {'held':>5} {'failed':>7}")
    for kind in TRIALS:
        print(f"{kind:<16} {held[kind] + failed[kind]:>5} {held[kind]:>5} {failed[kind]:>7}")
    print(f"{'all':<16} {held.total() + failed.total():>5} {held.total():>5} {failed.total():>7}")
    return 1 if failed else 0


def _run_trial(world: World, seed: int, only: str | None) -> tuple[str, list[str]]:
    """Runs the trial of a seed; returns its kind and the guarantees that did not hold."""
    world.begin(seed)
    [drawn] = world.chance.choices(list(TRIALS), [WEIGHTS.get(kind, 1) for kind in TRIALS])
    kind = only or drawn
    try:
        return kind, TRIALS[kind](world)
    except Exception:
        return kind, ["the trial itself failed", traceback.format_exc()]


if __name__ == "__main__":
    sys.exit(main())
