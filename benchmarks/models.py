"""dbt builds: the cost of one month compared with all months, and that of a month from its file to the report."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from benchmarks.data import releases
from benchmarks.loaders import Floor, Pipeline
from benchmarks.options import Options
from benchmarks.process import BenchmarkError, installed_command, run
from benchmarks.report import Section, log, median, ratio, ratio_range, ratios, seconds
from benchmarks.server import Server
from pipeline.sample import write_zones

_MONTHS = 6
_BUILD = [str(installed_command("luigi")), "--module", "pipeline", "DbtBuild", "--warehouse", "postgres"]


def measure_models(server: Server, options: Options) -> Iterator[Section]:
    """Loads and builds five months; then measures building the sixth month, nothing new, and all months again."""
    months = releases("green", options.rows, _MONTHS, options.cache)
    write_zones(months.mirror)
    pipeline = Pipeline(server, months, schema="bench_models")
    samples: dict[str, list[float]] = {"all six months": [], "the sixth month": [], "nothing new": []}
    for round_ in range(options.rounds):
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
        log(f"models {round_ + 1} of {options.rounds}: " + ", ".join(f"{v[-1]:.2f} s" for v in samples.values()))
    section = Section(
        f"DbtBuild of {_MONTHS} months of {options.rows:,} rows, tests included",
        ("build", "ratio to all six", "lowest … highest", "seconds"),
        notes=["Process start to exit. A sixth is 0.17; starting and parsing always take some seconds."],
        samples=samples,
    )
    for name, values in samples.items():
        to_reference = ratios(values, samples["all six months"])
        section.add(name, ratio(median(to_reference)), ratio_range(to_reference), seconds(median(values)))
    yield section
    pipeline.reset()


def measure_whole_month(server: Server, options: Options) -> Iterator[Section]:
    """Measures TripdataPipeline for a new month after few and after many months, interleaved with the floor."""
    few, many = 3, max(3, 2 * options.months)
    months = releases("green", options.rows, many + options.rounds, options.cache)
    write_zones(months.mirror)
    floor, pipeline = Floor(server, months), Pipeline(server, months, schema="bench_whole_month")
    names = [f"TripdataPipeline, {existing} months loaded before" for existing in sorted({few, many})]
    samples: dict[str, list[float]] = {name: [] for name in ("floor", "load alone", *names)}
    pipeline.reset()
    loaded = 0
    for name, existing in zip(names, sorted({few, many}), strict=True):
        for month in months.months[loaded:existing]:
            pipeline.load(month)
        _build(server, pipeline)
        loaded = existing
        for round_ in range(options.rounds):
            month = months.months[loaded]
            if name == names[0]:
                samples["floor"].append(floor.load(month))
                samples["load alone"].append(pipeline.load(month))
                _forget(pipeline, month)
                _build(server, pipeline)
            samples[name].append(_whole_month(server, pipeline, month))
            _forget(pipeline, month)
            _build(server, pipeline)
            log(f"{name}, {round_ + 1} of {options.rounds}: {samples[name][-1]:.2f} s")
    section = Section(
        f"A new month of {options.rows:,} rows, loaded, modelled, tested and reported on",
        ("command", "ratio to the floor", "lowest … highest", "seconds"),
        notes=["Process start to exit. The floor is `gunzip | psql \\copy` of the same file."],
        samples=samples,
    )
    for name, values in samples.items():
        to_reference = ratios(values, samples["floor"])
        section.add(name, ratio(median(to_reference)), ratio_range(to_reference), seconds(median(values)))
    yield section
    pipeline.reset()


def _whole_month(server: Server, pipeline: Pipeline, month: datetime.date) -> float:
    pipeline.remove_raw_files()
    server.wait_until_idle()
    whole = ["TripdataPipeline", "--taxi", "green", "--month", f"{month:%Y-%m}", "--warehouse", "postgres"]
    return run([*_BUILD[:3], *whole], pipeline.environment).seconds


def _forget(pipeline: Pipeline, month: datetime.date) -> None:
    forget = ["forget", "--taxi", "green", "--month", f"{month:%Y-%m}"]
    run([str(installed_command("pipeline")), *forget], pipeline.environment)


def _build(server: Server, pipeline: Pipeline, *options: str) -> float:
    server.wait_until_idle()
    return run([*_BUILD, *options], pipeline.environment).seconds


def _files_built(server: Server) -> int:
    return int(server.execute("SELECT count(DISTINCT filename) FROM bench_models.fact_trips")[0][0])
