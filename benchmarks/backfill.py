"""A backfill by two workers: the cost per month, with and without models and report."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.data import releases
from benchmarks.loaders import Floor, Pipeline
from benchmarks.options import Options
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, log, median, ratio, ratio_range, ratios, rows_per_second, seconds
from benchmarks.server import Server
from pipeline.sample import write_zones

_WORKERS = 2
_LOADS, _WHOLE = "LoadTripdata", "TripdataPipeline"


def measure_backfill(server: Server, options: Options) -> Iterator[Section]:
    """Runs RangeMonthly over all months into an empty table; the floor loads half of them before and half after it."""
    months = releases("green", options.rows, options.months, options.cache)
    write_zones(months.mirror)
    floor, pipeline = Floor(server, months), Pipeline(server, months, schema="bench_backfill")
    half = (options.months + 1) // 2
    samples: dict[str, list[float]] = {"floor": [], _LOADS: [], _WHOLE: []}
    for round_ in range(options.rounds):
        taken = [floor.load(month) for month in months.months[:half]]
        samples[_LOADS].append(_backfill(pipeline, options))
        samples[_WHOLE].append(_backfill(pipeline, options, _WHOLE, warehouse="postgres"))
        taken += [floor.load(month) for month in months.months[half:]]
        samples["floor"].append(sum(taken) / options.months)
        log(f"backfill {round_ + 1} of {options.rounds}: " + ", ".join(f"{v[-1]:.2f} s" for v in samples.values()))
    section = Section(
        f"Backfill of {options.months} months by RangeMonthly --workers {_WORKERS}, cost per month",
        ("loader", "ratio to floor", "lowest … highest", "seconds", "rows/s"),
        notes=["The time of the whole command, with its start and scheduling, divided by the number of months."],
        samples=samples,
    )
    for name, values in samples.items():
        against, middle = ratios(values, samples["floor"]), median(values)
        section.add(
            name, ratio(median(against)), ratio_range(against), seconds(middle), rows_per_second(options.rows, middle)
        )
    yield section


def _backfill(pipeline: Pipeline, options: Options, *task: str, **parameters: str) -> float:
    """Returns the seconds per month."""
    pipeline.reset()
    measurement = pipeline.backfill(_WORKERS, *task, **parameters)
    if (rows := pipeline.rows_loaded()) != options.rows * options.months:
        raise BenchmarkError(f"the backfill loaded {rows} rows of {options.rows * options.months}")
    pipeline.reset()
    return measurement.seconds / options.months
