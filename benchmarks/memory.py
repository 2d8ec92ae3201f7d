"""Memory: the peak resident size of the pipeline's process, which should not depend on the file."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.data import Releases, one_row_group, releases
from benchmarks.loaders import Pipeline
from benchmarks.options import Options
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, log, rows_per_second, seconds
from benchmarks.server import Server


def measure_memory(server: Server, options: Options) -> Iterator[Section]:
    """Measures the peak of one load, with the extract, of a small, a green, a yellow and a large Parquet month each."""
    section = Section(
        "Peak memory of the pipeline's process",
        ("month", "MB", "seconds", "rows/s"),
        notes=["Only the Python process, as the kernel counts it (ru_maxrss); MB are 10^6 bytes. One run each."],
    )
    for month in (
        releases("green", 1000, 1, options.cache),
        releases("green", options.rows, 1, options.cache),
        releases("yellow", options.yellow_rows, 1, options.cache),
        one_row_group("fhvhv", options.fhvhv_rows, options.cache),
    ):
        _measure(server, month, section)
    yield section


def _measure(server: Server, month: Releases, section: Section) -> None:
    pipeline = Pipeline(server, month, schema="bench_memory")
    pipeline.reset()
    duration = pipeline.load(month.months[0])
    if (rows := pipeline.rows_loaded()) != month.rows:
        raise BenchmarkError(f"{rows} rows loaded of {month.rows}")
    pipeline.reset()
    name, peak = f"{month.dataset.name}, {month.rows:,} rows", pipeline.peaks[0]
    log(f"memory: {name}: {peak / 1e6:.0f} MB")
    section.samples[f"{name} (bytes, seconds)"] = [float(peak), duration]
    section.add(name, f"{peak / 1e6:.0f}", seconds(duration), rows_per_second(month.rows, duration))
