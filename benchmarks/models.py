"""dbt builds: what a month costs against building all, and what it costs from its file to the report."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from benchmarks.contestants import Floor, Pipeline
from benchmarks.data import releases
from benchmarks.options import Options
from benchmarks.process import BenchmarkError, installed, run
from benchmarks.report import Section, median, ratio, ratio_range, ratios, seconds, tell
from benchmarks.server import Server
from pipeline.sample import write_zones

_MONTHS = 6
_BUILD = [str(installed("luigi")), "--module", "pipeline", "DbtBuild", "--warehouse", "postgres"]


def measure_models(server: Server, options: Options) -> Iterator[Section]:
    """Five months loaded and built; then, timed: the sixth, nothing, and all of them anew."""
    months = releases("green", options.rows, _MONTHS, options.cache)
    write_zones(months.mirror)
    pipeline = Pipeline(server, months, schema="bench_models")
    samples: dict[str, list[float]] = {"all six months": [], "the sixth month": [], "nothing new": []}
    for turn in range(options.rounds):
        pipeline.reset()
        for month in months.months[:-1]:
            pipeline.load(month)
        _build(server, pipeline)
        pipeline.load(months.months[-1])
        samples["the sixth month"].append(_build(server, pipeline))
        samples["nothing new"].append(_build(server, pipeline))
        samples["all six months"].append(_build(server, pipeline, "--full-refresh"))
        if (files := _files_built(server)) != _MONTHS:
            raise BenchmarkError(f"fact_trips holds {files} months of {_MONTHS}")
        tell(f"models {turn + 1} of {options.rounds}: " + ", ".join(f"{v[-1]:.2f} s" for v in samples.values()))
    section = Section(
        f"DbtBuild of {_MONTHS} months of {options.rows:,} rows, tests included",
        ("build", "ratio to all six", "lowest … highest", "seconds"),
        notes=[
            "Process start to exit. A sixth is 0.17; starting and parsing take some seconds whatever there is to do."
        ],
        samples=samples,
    )
    for name, values in samples.items():
        against = ratios(values, samples["all six months"])
        section.add(name, ratio(median(against)), ratio_range(against), seconds(median(values)))
    yield section
    pipeline.reset()


def measure_whole_month(server: Server, options: Options) -> Iterator[Section]:
    """A new month through TripdataPipeline, where few and where many months are there, interleaved with the floor."""
    few, many = 3, max(3, 2 * options.months)
    months = releases("green", options.rows, many + options.rounds, options.cache)
    write_zones(months.mirror)
    floor, pipeline = Floor(server, months), Pipeline(server, months, schema="bench_whole_month")
    names = [f"TripdataPipeline, {there} months there" for there in sorted({few, many})]
    samples: dict[str, list[float]] = {name: [] for name in ("floor", "load alone", *names)}
    pipeline.reset()
    loaded = 0
    for name, there in zip(names, sorted({few, many}), strict=True):
        for month in months.months[loaded:there]:
            pipeline.load(month)
        _build(server, pipeline)
        loaded = there
        for turn in range(options.rounds):
            month = months.months[loaded]
            if name == names[0]:
                samples["floor"].append(floor.load(month))
                samples["load alone"].append(pipeline.load(month))
                _forget(pipeline, month)
                _build(server, pipeline)
            samples[name].append(_whole_month(server, pipeline, month))
            _forget(pipeline, month)
            _build(server, pipeline)
            tell(f"{name}, {turn + 1} of {options.rounds}: {samples[name][-1]:.2f} s")
    section = Section(
        f"A new month of {options.rows:,} rows, loaded, modelled, tested and reported on",
        ("command", "ratio to the floor", "lowest … highest", "seconds"),
        notes=["Process start to exit. The floor is `gunzip | psql \\copy` of the same file."],
        samples=samples,
    )
    for name, values in samples.items():
        against = ratios(values, samples["floor"])
        section.add(name, ratio(median(against)), ratio_range(against), seconds(median(values)))
    yield section
    pipeline.reset()


def _whole_month(server: Server, pipeline: Pipeline, month: datetime.date) -> float:
    pipeline.empty_raw_folder()
    server.settle()
    whole = ["TripdataPipeline", "--taxi", "green", "--month", f"{month:%Y-%m}", "--warehouse", "postgres"]
    return run([*_BUILD[:3], *whole], pipeline.environment).seconds


def _forget(pipeline: Pipeline, month: datetime.date) -> None:
    forget = ["forget", "--taxi", "green", "--month", f"{month:%Y-%m}"]
    run([str(installed("pipeline")), *forget], pipeline.environment)


def _build(server: Server, pipeline: Pipeline, *options: str) -> float:
    server.settle()
    return run([*_BUILD, *options], pipeline.environment).seconds


def _files_built(server: Server) -> int:
    return int(server.execute("SELECT count(DISTINCT filename) FROM bench_models.fact_trips")[0][0])
