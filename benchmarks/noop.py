"""Runs for months that are already loaded, compared with a Luigi task that has nothing to do."""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.data import releases
from benchmarks.loaders import Pipeline
from benchmarks.options import Options
from benchmarks.process import CHECKOUT, BenchmarkError, installed_command, run
from benchmarks.report import Section, log, median, ratio, ratio_range, ratios
from benchmarks.server import Server

_MONTHS, _ROWS = 24, 1000
EMPTY_TASK = [str(installed_command("luigi")), "--module", "benchmarks.empty_task", "Empty", "--local-scheduler"]
# The benchmarks are not installed, so Luigi finds the empty task by PYTHONPATH. All commands get it, to be alike.
PATH = {"PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))}


def _run_idle(command: list[str], environment: dict[str, str]) -> float:
    measurement = run(command, environment)
    if "ran successfully" in measurement.output:  # Luigi prints this if it ran any task
        raise BenchmarkError(f"there was something to do for {' '.join(command)}\n{measurement.output}")
    return measurement.seconds


def measure_noop(server: Server, options: Options) -> Iterator[Section]:
    """Runs the commands in rounds, in an order that changes, and measures from process start to exit."""
    months = releases("green", _ROWS, _MONTHS, options.cache)
    pipeline = Pipeline(server, months, schema="bench_noop")
    pipeline.reset()
    pipeline.backfill(workers=1)
    if (rows := pipeline.rows_loaded()) != _ROWS * _MONTHS:
        raise BenchmarkError(f"{rows} rows loaded of {_ROWS * _MONTHS}")
    environment = PATH | pipeline.environment
    commands = {
        "empty Luigi task": (EMPTY_TASK, environment),
        "one month": (pipeline.command(months.months[0]), environment),
        # The server is in the default folder below the storage root, so it is found without a DSN.
        "one month, no DSN set": (pipeline.command(months.months[0]), environment | {"PIPELINE__POSTGRES__DSN": ""}),
        f"{_MONTHS} months, RangeMonthly": (pipeline.backfill_command(workers=1), environment),
    }
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(options.noop_rounds):
        order = list(commands)[round_ % len(commands) :] + list(commands)[: round_ % len(commands)]
        for name in order:
            samples[name].append(_run_idle(*commands[name]))
        log(f"no-op {round_ + 1} of {options.noop_rounds}: " + ", ".join(f"{v[-1]:.2f} s" for v in samples.values()))
    section = Section(
        f"Runs for months that are already loaded, medians of {options.noop_rounds} runs",
        ("command", "ratio of medians", "lowest … highest", "seconds", "more than empty"),
        notes=["Process start to exit. The last column is the difference to the empty task in milliseconds."],
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
