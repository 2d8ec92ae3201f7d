"""Loads month after month into one table: how long each takes against the floor, and whether it grows."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from benchmarks.contestants import Contestant, Floor, Pipeline
from benchmarks.data import Releases, releases
from benchmarks.old_flow import OldFlow
from benchmarks.options import Options
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, median, ratio, ratio_range, ratios, rows_per_second, seconds, tell
from benchmarks.server import Server


@dataclass
class _Race:
    """The samples of all rounds: for each contestant and month as many as there are rounds."""

    months: int
    samples: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, name: str, month: int, value: float) -> None:
        self.samples.setdefault(name, [[] for _ in range(self.months)])[month].append(value)

    def all_seconds(self, name: str) -> list[float]:
        return [value for month in self.samples[name] for value in month]

    def month_ratios(self, name: str) -> list[list[float]]:
        floors = self.samples["floor"]
        return [ratios(own, floor) if own else [] for own, floor in zip(self.samples[name], floors, strict=True)]


def measure_loading(server: Server, options: Options) -> Iterator[Section]:
    """Round robin: each month goes to one contestant after the other, the first of them changing, then the next month.

    So whatever the machine does at the time, it does to all of them.
    """
    months = releases("green", options.rows, options.months, options.cache)
    contestants: list[Contestant] = [Floor(server, months)]
    if "load" in options.sections:
        contestants.append(Pipeline(server, months))
    if "old-flow" in options.sections:
        contestants.append(OldFlow(server, months))
    race = _Race(options.months)
    _warm_up(server, options)
    for turn in range(options.rounds):
        _run_round(race, contestants, months, turn, options)
    names = [contestant.name for contestant in contestants]
    yield _overall(race, names, options)
    yield _by_month(race, names, months.months)
    if options.months >= 2:
        yield _growth(race, names[1:], options)


def _warm_up(server: Server, options: Options) -> None:
    """Takes the first start's costs (compiled modules, cold libraries) off the first month."""
    few = releases("green", 1000, 1, options.cache)
    contestants = (Floor(server, few), Pipeline(server, few), OldFlow(server, few))
    for contestant in contestants:
        contestant.reset()
        contestant.load(few.months[0])
        contestant.reset()


def _run_round(race: _Race, contestants: list[Contestant], months: Releases, turn: int, options: Options) -> None:
    for contestant in contestants:
        contestant.reset()
    for i, month in enumerate(months.months):
        first = (turn + i) % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            if isinstance(contestant, OldFlow) and i >= options.old_flow_months:
                continue
            race.add(contestant.name, i, contestant.load(month))
        taken = ", ".join(f"{name} {values[i][-1]:.2f} s" for name, values in race.samples.items() if values[i])
        tell(f"round {turn + 1} of {options.rounds}, {month:%Y-%m}: {taken}")
    for contestant in contestants[1:]:
        loaded = options.old_flow_months if isinstance(contestant, OldFlow) else options.months
        if (rows := contestant.rows_loaded()) != loaded * options.rows:
            raise BenchmarkError(f"{contestant.name}: {rows} rows loaded of {loaded * options.rows}")
        contestant.reset()


def _overall(race: _Race, names: list[str], options: Options) -> Section:
    section = Section(
        f"One month of {options.rows:,} green rows: medians over {options.months} months and {options.rounds} rounds",
        ("contestant", "ratio to floor", "lowest … highest", "seconds", "rows/s"),
        notes=["The floor: gunzip -c | psql \\copy into a plain table. The pipeline: from process start to exit."],
    )
    for name in names:
        values = race.all_seconds(name)
        against = [value for month in race.month_ratios(name) for value in month]
        section.samples[name] = values
        middle = median(values)
        section.add(
            name, ratio(median(against)), ratio_range(against), seconds(middle), rows_per_second(options.rows, middle)
        )
    return section


def _by_month(race: _Race, names: list[str], months: tuple[datetime.date, ...]) -> Section:
    header = ["month", "floor s"]
    for name in names[1:]:
        header += [f"{name} s", "ratio"]
    section = Section("Month by month into one table (medians over rounds)", tuple(header))
    for i, month in enumerate(months):
        cells = [f"{i + 1:>2}  {month:%Y-%m}", seconds(median(race.samples["floor"][i]))]
        for name in names[1:]:
            own = race.samples[name][i]
            cells += [seconds(median(own)), ratio(median(race.month_ratios(name)[i]))] if own else ["-", "-"]
        section.add(*cells)
        for name in names:
            section.samples[f"{name} {month:%Y-%m}"] = race.samples[name][i]
    return section


def _first_and_last(months: list[list[float]]) -> tuple[float, float]:
    """The medians of the first two months and of the last two, or of one each where there are fewer than four."""
    count = 2 if len(months) >= 4 else 1
    return median(chain.from_iterable(months[:count])), median(chain.from_iterable(months[-count:]))


def _growth(race: _Race, names: list[str], options: Options) -> Section:
    section = Section(
        "Growth: the last months against the first (1.00 is flat)",
        ("contestant", "by ratios to the floor", "first", "last", "by seconds alone"),
        notes=[
            "The medians of the first two and the last two months; of one each where there are fewer than four.",
            "By ratios, what the machine does at the time cancels out; by seconds alone it does not.",
        ],
    )
    for name in names:
        first, last = _first_and_last([month for month in race.month_ratios(name) if month])
        first_seconds, last_seconds = _first_and_last([month for month in race.samples[name] if month])
        section.add(name, ratio(last / first), ratio(first), ratio(last), ratio(last_seconds / first_seconds))
    if options.old_flow_months < options.months:
        section.notes.append(f"The older flow was stopped after {options.old_flow_months} months.")
    return section
