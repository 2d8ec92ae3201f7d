"""The charts that a warehouse's figures give, each also as a sentence and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pandas as pd

from pipeline.report.charts import draw_months, draw_ranking, draw_week
from pipeline.report.drawing import Draw
from pipeline.report.figures import Figures, WeekHour, hours_by_trips
from pipeline.report.tables import Table, months_table, ranking_table, week_table
from pipeline.report.wording import WEEKDAYS, average, listed, month_name, percent

_TOP_ZONES = 15


@dataclass(frozen=True)
class Chart:
    """A drawing, a sentence that says what it shows, and its figures."""

    name: str
    draw: Draw
    sentence: str
    table: Table


@dataclass(frozen=True)
class Section:
    """Charts that answer one question."""

    title: str
    charts: list[Chart]


def sections_of(figures: Figures) -> list[Section]:
    """The sections that there is something to show in, in the page's order."""
    dated = figures.dated()["service"].unique()
    sections = [
        Section("Month by month", [_months(figures)] if len(dated) else []),
        Section("Where trips begin", [_boroughs(figures), _zones(figures)] if len(figures.zones) else []),
        Section("When trips begin", [_week(figures, service) for service in figures.services if service in dated]),
    ]
    return [section for section in sections if section.charts]


def _months(figures: Figures) -> Chart:
    by_month = figures.by_month()
    sentences = [_most_and_fewest(service, by_month) for service in by_month["service"].unique()]
    every = pd.period_range(by_month["month"].min(), by_month["month"].max(), freq="M")
    if len(by_month) < len(every) * len(sentences):
        sentences.append("A month without a bar is not loaded, or has no trips.")
    draw = partial(draw_months, by_month)
    return Chart("months", draw, " ".join(sentences), months_table(by_month))


def _most_and_fewest(service: str, by_month: pd.DataFrame) -> str:
    of_service = by_month[by_month["service"] == service]
    trips = dict(zip(of_service["month"], of_service["trips"], strict=True))
    most, fewest = max(trips, key=trips.__getitem__), min(trips, key=trips.__getitem__)
    sentence = f"{service} taxis made {trips[most]:,} trips in {month_name(most)}"
    return sentence + (
        f", the most, and {trips[fewest]:,} in {month_name(fewest)}, the fewest." if most != fewest else "."
    )


def _boroughs(figures: Figures) -> Chart:
    ranking = figures.by_borough()
    table = ranking_table("Pick-ups by borough", "Borough", ranking)
    return Chart("boroughs", partial(draw_ranking, ranking), _leaders(ranking), table)


def _zones(figures: Figures) -> Chart:
    ranking = figures.by_zone()
    top = ranking.head(_TOP_ZONES)
    table = ranking_table("Zones with the most pick-ups", "Zone", top)
    return Chart("zones", partial(draw_ranking, top), _leaders(ranking), table)


def _leaders(ranking: pd.DataFrame) -> str:
    totals = ranking.sum(axis="columns")
    leaders = [f"{place} ({trips:,}, {percent(trips, totals.sum())})" for place, trips in totals.head(3).items()]
    return f"Most trips begin in {listed(leaders)}."


def _week(figures: Figures, service: str) -> Chart:
    week = figures.week([service])
    hours = hours_by_trips(week)
    return Chart(
        f"week-{service.lower()}",
        partial(draw_week, week, service),
        f"{service} taxis are busiest on {_when(hours[0])} and quietest on {_when(hours[-1])}.",
        week_table(f"{service} taxis: trips in an average hour", week),
    )


def _when(hour: WeekHour) -> str:
    return f"{WEEKDAYS[hour.weekday]}s from {hour.hour:02}:00 ({average(hour.trips)} trips an hour)"
