"""A backfill by two workers: what a month costs when two are loaded side by side."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contestants import Floor, Pipeline
from benchmarks.data import releases
from benchmarks.options import Options
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, median, ratio, ratio_range, ratios, rows_per_second, seconds, tell
from benchmarks.server import Server

_WORKERS = 2


def measure_backfill(server: Server, options: Options) -> Iterator[Section]:
    """RangeMonthly over all months into an empty table; the floor loads half of them before it and half after it."""
    months = releases("green", options.rows, options.months, options.cache)
    floor, pipeline = Floor(server, months), Pipeline(server, months, schema="bench_backfill")
    half = (options.months + 1) // 2
    floors: list[float] = []
    per_month: list[float] = []
    for turn in range(options.rounds):
        pipeline.reset()
        taken = [floor.load(month) for month in months.months[:half]]
        per_month.append(pipeline.backfill(_WORKERS).seconds / options.months)
        taken += [floor.load(month) for month in months.months[half:]]
        floors.append(sum(taken) / options.months)
        if (rows := pipeline.rows_loaded()) != options.rows * options.months:
            raise BenchmarkError(f"the backfill loaded {rows} rows of {options.rows * options.months}")
        tell(f"backfill {turn + 1} of {options.rounds}: {per_month[-1]:.2f} s a month, floor {floors[-1]:.2f} s")
        pipeline.reset()
    section = Section(
        f"Backfill of {options.months} months by RangeMonthly --workers {_WORKERS}, cost per month",
        ("contestant", "ratio to floor", "lowest … highest", "seconds", "rows/s"),
        notes=["The whole command, its start and its planning included, divided by the months."],
        samples={"floor": floors, "pipeline": per_month},
    )
    for name, values in section.samples.items():
        against, middle = ratios(values, floors), median(values)
        section.add(
            name, ratio(median(against)), ratio_range(against), seconds(middle), rows_per_second(options.rows, middle)
        )
    yield section
