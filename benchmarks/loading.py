"""Loads month after month into one table: the time of each month relative to the floor, and whether it grows."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from benchmarks.data import Releases, releases
from benchmarks.loaders import Floor, Loader, Pipeline
from benchmarks.old_flow import OldFlow
from benchmarks.options import Options
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, log, median, ratio, ratio_range, ratios, rows_per_second, seconds
from benchmarks.server import Server


@dataclass
class _Samples:
    """The samples of all rounds: for each loader and month, one sample per round."""

    months: int
    by_loader: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, name: str, month: int, value: float) -> None:
        self.by_loader.setdefault(name, [[] for _ in range(self.months)])[month].append(value)

    def all_seconds(self, name: str) -> list[float]:
        return [value for month in self.by_loader[name] for value in month]

    def month_ratios(self, name: str) -> list[list[float]]:
        floors = self.by_loader["floor"]
        return [
            ratios(of_loader, floor) if of_loader else []
            for of_loader, floor in zip(self.by_loader[name], floors, strict=True)
        ]


def measure_loading(server: Server, options: Options) -> Iterator[Section]:
    """Loads each month with one loader after the other, then the next month; the loader that is first changes.

    So other load on the machine affects all loaders alike.
    """
    months = releases("green", options.rows, options.months, options.cache)
    loaders: list[Loader] = [Floor(server, months)]
    if "load" in options.sections:
        loaders.append(Pipeline(server, months))
    if "old-flow" in options.sections:
        loaders.append(OldFlow(server, months))
    samples = _Samples(options.months)
    _warm_up(server, options)
    for round_ in range(options.rounds):
        _run_round(samples, loaders, months, round_, options)
    names = [loader.name for loader in loaders]
    yield _overall(samples, names, options)
    yield _by_month(samples, names, months.months)
    if options.months >= 2:
        yield _growth(samples, names[1:], options)


def _warm_up(server: Server, options: Options) -> None:
    """Loads a small month, so that the first measured month does not include compiling and caching of libraries."""
    few = releases("green", 1000, 1, options.cache)
    loaders = (Floor(server, few), Pipeline(server, few), OldFlow(server, few))
    for loader in loaders:
        loader.reset()
        loader.load(few.months[0])
        loader.reset()


def _run_round(samples: _Samples, loaders: list[Loader], months: Releases, round_: int, options: Options) -> None:
    for loader in loaders:
        loader.reset()
    for i, month in enumerate(months.months):
        first = (round_ + i) % len(loaders)
        for loader in loaders[first:] + loaders[:first]:
            if isinstance(loader, OldFlow) and i >= options.old_flow_months:
                continue
            samples.add(loader.name, i, loader.load(month))
        taken = ", ".join(f"{name} {values[i][-1]:.2f} s" for name, values in samples.by_loader.items() if values[i])
        log(f"round {round_ + 1} of {options.rounds}, {month:%Y-%m}: {taken}")
    for loader in loaders[1:]:
        loaded = options.old_flow_months if isinstance(loader, OldFlow) else options.months
        if (rows := loader.rows_loaded()) != loaded * options.rows:
            raise BenchmarkError(f"{loader.name}: {rows} rows loaded of {loaded * options.rows}")
        loader.reset()


def _overall(samples: _Samples, names: list[str], options: Options) -> Section:
    section = Section(
        f"One month of {options.rows:,} green rows: medians over {options.months} months and {options.rounds} rounds",
        ("loader", "ratio to floor", "lowest … highest", "seconds", "rows/s"),
        notes=[
            "The floor is gunzip -c | psql \\copy into a plain table; the pipeline is timed from process start to exit."
        ],
    )
    for name in names:
        values = samples.all_seconds(name)
        to_floor = [value for month in samples.month_ratios(name) for value in month]
        section.samples[name] = values
        middle = median(values)
        section.add(
            name, ratio(median(to_floor)), ratio_range(to_floor), seconds(middle), rows_per_second(options.rows, middle)
        )
    return section


def _by_month(samples: _Samples, names: list[str], months: tuple[datetime.date, ...]) -> Section:
    header = ["month", "floor s"]
    for name in names[1:]:
        header += [f"{name} s", "ratio"]
    section = Section("Month by month into one table (medians over rounds)", tuple(header))
    for i, month in enumerate(months):
        cells = [f"{i + 1:>2}  {month:%Y-%m}", seconds(median(samples.by_loader["floor"][i]))]
        for name in names[1:]:
            of_loader = samples.by_loader[name][i]
            cells += (
                [seconds(median(of_loader)), ratio(median(samples.month_ratios(name)[i]))] if of_loader else ["-", "-"]
            )
        section.add(*cells)
        for name in names:
            section.samples[f"{name} {month:%Y-%m}"] = samples.by_loader[name][i]
    return section


def _first_and_last(months: list[list[float]]) -> tuple[float, float]:
    """Returns the medians of the first two and of the last two months, or of one each if there are fewer than four."""
    count = 2 if len(months) >= 4 else 1
    return median(chain.from_iterable(months[:count])), median(chain.from_iterable(months[-count:]))


def _growth(samples: _Samples, names: list[str], options: Options) -> Section:
    section = Section(
        "Growth: the last months compared with the first (1.00 is flat)",
        ("loader", "by ratios to the floor", "first", "last", "by seconds alone"),
        notes=[
            "The medians of the first two and of the last two months, or of one each if there are fewer than four.",
            "Other load on the machine affects the seconds, but hardly the ratios.",
        ],
    )
    for name in names:
        first, last = _first_and_last([month for month in samples.month_ratios(name) if month])
        first_seconds, last_seconds = _first_and_last([month for month in samples.by_loader[name] if month])
        section.add(name, ratio(last / first), ratio(first), ratio(last), ratio(last_seconds / first_seconds))
    if options.old_flow_months < options.months:
        section.notes.append(f"The older flow was stopped after {options.old_flow_months} months.")
    return section
