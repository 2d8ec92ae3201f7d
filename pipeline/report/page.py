"""The page: one file that needs nothing beside it and no network."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from pipeline.report.contents import sections_of
from pipeline.report.drawing import COLOURS, NARROW, WIDE, Draw, Layout, svg
from pipeline.report.figures import Figures, hours_by_trips
from pipeline.report.tables import oddities_table, rows_table
from pipeline.report.wording import WEEKDAYS, average, dollars, listed, percent, short, spans


@dataclass(frozen=True)
class Headline:
    """A number to begin with."""

    name: str
    value: str
    note: str


def render(figures: Figures, warehouse: str, digest: str, made_at: datetime.datetime) -> str:
    """The page as HTML; `digest` is kept in it, to tell later what it was made from."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"svg": _svg, "wide": WIDE, "narrow": NARROW, "colours": COLOURS}
    environment.globals |= {"rows_table": rows_table, "oddities_table": oddities_table}
    return environment.get_template("page.html").render(
        digest=digest,
        files=figures.files,
        services=listed(sorted({file.service for file in figures.files})),
        period=spans(file.month for file in figures.files),
        headlines=_headlines(figures) if len(figures.hours) else [],
        sections=sections_of(figures),
        misdated=_misdated(figures),
        sources=sorted({file.source.rpartition("/")[0] for file in figures.files}),
        made_at=f"{made_at:%d %B %Y at %H:%M} UTC".lstrip("0"),
        warehouse=warehouse,
    )


def _svg(draw: Draw, layout: Layout) -> Markup:
    return Markup(svg(draw, layout))


def _headlines(figures: Figures) -> list[Headline]:
    trips, revenue = int(figures.hours["trips"].sum()), float(figures.hours["revenue"].sum())
    days = figures.dated()["date"].nunique()
    zones = figures.by_zone().sum(axis="columns")
    headlines = [
        Headline("Trips", f"{trips:,}", f"on {days:,} days"),
        Headline("Revenue", short(revenue, "$"), dollars(revenue)),
        Headline("Revenue a trip", dollars(revenue / trips), "tips by card, tolls and taxes included"),
        Headline("Busiest zone", str(zones.index[0]).split(",")[0], f"{percent(zones.iloc[0], trips)} of pick-ups"),
    ]
    if days:
        busiest = hours_by_trips(figures.week(figures.services))[0]
        when = f"{WEEKDAYS[busiest.weekday][:3]} {busiest.hour:02}:00"
        headlines.append(Headline("Busiest hour", when, f"{average(busiest.trips)} trips on average"))
    return headlines


def _misdated(figures: Figures) -> str:
    """What to know about the trips that the charts by time cannot show."""
    misdated = figures.misdated()
    if misdated.empty:
        return ""
    first, last = (f"{date:%B %Y}" for date in (misdated["date"].min(), misdated["date"].max()))
    trips = int(misdated["trips"].sum())
    dates = first if first == last else f"{first} to {last}"
    return f"Trips dated in months that are not loaded ({dates}; {trips:,} in all) are in the totals and places only."
