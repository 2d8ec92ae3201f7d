"""Reruns of what is loaded already: what they cost against a Luigi task that has nothing to do."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.contestants import Pipeline
from benchmarks.data import releases
from benchmarks.options import Options
from benchmarks.process import CHECKOUT, BenchmarkError, installed, run
from benchmarks.report import Section, median, ratio, ratio_range, ratios, tell
from benchmarks.server import Server

_MONTHS, _ROWS = 24, 1000
EMPTY_TASK = [str(installed("luigi")), "--module", "benchmarks.empty_task", "Empty", "--local-scheduler"]
# The benchmarks are not installed, so the empty task is found by the path; all of them get it, to be alike.
PATH = {"PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))}


def _run_idle(command: list[str], environment: dict[str, str]) -> float:
    measured = run(command, environment)
    if "ran successfully" in measured.output:  # Luigi's summary, of tasks that were run
        raise BenchmarkError(f"something was left to do for {' '.join(command)}\n{measured.output}")
    return measured.seconds


def measure_noop(server: Server, options: Options) -> Iterator[Section]:
    """One command after the other, the first of them changing, round by round: process start to exit."""
    months = releases("green", _ROWS, _MONTHS, options.cache)
    pipeline = Pipeline(server, months, schema="bench_noop")
    pipeline.reset()
    pipeline.backfill(workers=1)
    if (rows := pipeline.rows_loaded()) != _ROWS * _MONTHS:
        raise BenchmarkError(f"{rows} rows loaded of {_ROWS * _MONTHS}")
    given = PATH | pipeline.environment
    commands = {
        "empty Luigi task": (EMPTY_TASK, given),
        "one month": (pipeline.command(months.months[0]), given),
        # The server's folder is the default one below the storage root, so that no DSN is needed to find it running.
        "one month, no DSN set": (pipeline.command(months.months[0]), given | {"PIPELINE__POSTGRES__DSN": ""}),
        f"{_MONTHS} months, RangeMonthly": (pipeline.backfill_command(workers=1), given),
    }
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(options.noop_rounds):
        order = list(commands)[turn % len(commands) :] + list(commands)[: turn % len(commands)]
        for name in order:
            samples[name].append(_run_idle(*commands[name]))
        tell(f"no-op {turn + 1} of {options.noop_rounds}: " + ", ".join(f"{v[-1]:.2f} s" for v in samples.values()))
    section = Section(
        f"Rerun of what is loaded already, medians of {options.noop_rounds} runs",
        ("command", "ratio of medians", "lowest … highest", "seconds", "more than empty"),
        notes=["Process start to exit. More than empty: the milliseconds beside those of the empty task."],
        samples=samples,
    )
    empty = samples["empty Luigi task"]
    for name, values in samples.items():
        middle, more = median(values), (median(values) - median(empty)) * 1000
        section.add(
            name, ratio(middle / median(empty)), ratio_range(ratios(values, empty)), f"{middle:.3f}", f"{more:+.0f} ms"
        )
    yield section
    pipeline.reset()
