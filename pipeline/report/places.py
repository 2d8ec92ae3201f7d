"""The section on places: a map of the taxi zones, and rankings of boroughs and zones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from pipeline.report.formatting import dollars, listed, month_name, percent, short
from pipeline.report.sections import Chart, Headline, ReportData, Section, Table
from pipeline.report.svg import Bar, Svg, colour_of, ranking

_OUTLINES = Path(__file__).with_name("zones.json")
# TLC's shapefile has one outline for Corona (56, 57) and one for the islands in the harbour (103 to 105).
_SAME_OUTLINE = {57: 56, 104: 103, 105: 103}
_UNKNOWN = "Unknown"
_TOP_ZONES = 15
_MONTHS_ON_MAP = 24  # the newest months of each service; limits the size of the page
_SHADES = (0.08, 0.2, 0.34, 0.5, 0.66, 0.83, 1.0)  # the same as in map.js
_ALL = "all"


@dataclass(frozen=True)
class Pickups:
    """Pick-ups of a service in a month in a zone. `zone_id` is None if unknown, `revenue` if there are no fares."""

    service: str
    month: str
    zone_id: int | None
    place: str
    borough: str
    trips: int
    revenue: float | None


def section(data: ReportData) -> Section:
    """Returns the map and the rankings."""
    pickups = _pickups(data)
    if not pickups:
        return Section("Where trips begin")
    places = Places(data, pickups)
    charts = [places.map(), places.ranking("boroughs", "Pick-ups by borough", "Borough", "borough")]
    charts.append(places.ranking("zones", "Zones with the most pick-ups", "Zone", "place"))
    if any(found.revenue for found in pickups):
        charts.append(places.ranking("zone-revenue", "Zones with the most revenue", "Zone", "place", by_revenue=True))
    return Section("Where trips begin", charts, headlines=places.headlines())


def _pickups(data: ReportData) -> list[Pickups]:
    found = []
    for row in data.rows("select_zones", "int_zone_revenue_by_file"):
        borough = _UNKNOWN if row["borough"] in (None, _UNKNOWN, "N/A") else row["borough"]
        found.append(
            Pickups(
                service=row["service"],
                month=f"{int(row['year']):04}-{int(row['month']):02}",
                zone_id=None if row["zone_id"] is None else int(row["zone_id"]),
                place=_UNKNOWN if borough == _UNKNOWN else f"{row['zone']}, {borough}",
                borough=borough,
                trips=int(row["trips"]),
                revenue=None if row["revenue"] is None else float(row["revenue"]),
            )
        )
    return found


@dataclass(frozen=True)
class Places:
    """Creates the charts of all pick-ups."""

    data: ReportData
    pickups: list[Pickups]

    @cached_property
    def _total(self) -> int:
        return sum(found.trips for found in self.pickups)

    def headlines(self) -> list[Headline]:
        """Returns the busiest zone of the complete months."""
        trips: dict[str, int] = defaultdict(int)
        for found in self.pickups:
            if (found.service, found.month) in self.data.complete:
                trips[found.place] += found.trips
        if not trips:
            return []
        place = max(trips, key=lambda place: (trips[place], place))
        return [
            Headline("Busiest zone", place.split(",")[0], f"{percent(trips[place], sum(trips.values()))} of pick-ups")
        ]

    def ranking(self, name: str, title: str, head: str, key: str, *, by_revenue: bool = False) -> Chart:
        """Returns a chart of the top places, with bars that are divided by service."""
        amounts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for found in self.pickups:
            amounts[getattr(found, key)][found.service] += (found.revenue or 0.0) if by_revenue else found.trips
        totals = {place: sum(of.values()) for place, of in amounts.items()}
        ranked = sorted(amounts, key=lambda place: (-totals[place], place))
        top, everything = ranked[:_TOP_ZONES], sum(totals.values())
        services = sorted({service for of in amounts.values() for service, amount in of.items() if amount})
        sign = "$" if by_revenue else ""

        def full(amount: float) -> str:
            return dollars(amount) if by_revenue else f"{amount:,.0f}"

        def draw(width: int) -> Svg:
            bars = [
                Bar(
                    place,
                    [
                        (colour_of(service), amounts[place][service], f"{place}, {service}: {full(amount)}")
                        for service in services
                        if (amount := amounts[place][service])
                    ],
                    short(totals[place], sign),
                )
                for place in top
            ]
            return ranking(width, bars, {service: colour_of(service) for service in services})

        several = ["All"] if len(services) > 1 else []
        rows = [
            [place, *(full(amounts[place][service]) for service in services), *([full(totals[place])] * len(several))]
            for place in top
        ]
        leaders = [f"{place} ({full(totals[place])}, {percent(totals[place], everything)})" for place in ranked[:3]]
        sentence = f"{'Most revenue comes from' if by_revenue else 'Most trips begin in'} {listed(leaders)}."
        return Chart(name, draw, sentence, [Table(title, [head, *services, *several], rows)])

    def map(self) -> Chart:
        """Returns the map, shaded by pick-ups; with `map.js` the reader selects service, month and measure."""
        values = self._map_values()
        services = sorted(values, key=lambda service: -sum(values[service][_ALL][0]))
        outlines = zone_outlines()
        shown = services[0]
        trips = dict(zip(outlines["zones"], values[shown][_ALL][0], strict=True))
        limits = _limits(trips.values())
        names = self._names()
        paths = "".join(
            f'<path data-zone="{zone}" d="{path}" tabindex="-1" fill-opacity="{_shade(trips[zone], limits)}">'
            f"<title>{escape(names.get(int(zone), f'Zone {zone}'))}: {trips[zone]:,} pick-ups</title></path>"
            for zone, path in outlines["zones"].items()
        )

        def draw(_: int) -> Svg:
            svg = Svg(outlines["width"], outlines["height"])
            group = f'<g class="zones" fill="{colour_of(shown)}" stroke="var(--grid)" stroke-width="1">{paths}</g>'
            svg.raw(Markup(group))  # names are escaped above
            return svg

        content = {
            "names": {zone: names.get(int(zone), f"Zone {zone}") for zone in outlines["zones"]},
            "zones": list(outlines["zones"]),
            "values": values,
            "colours": {service: colour_of(service) for service in services},
        }
        controls = Markup(_controls(services, values, self.data, limits, shown)) + _json("map-data", content)
        first = max(trips, key=lambda zone: trips[zone])
        sentence = (
            f"The darker a zone, the more {shown.lower()} taxis were taken there: most in"
            f" {names.get(int(first), first)}."
        )
        return Chart("map", draw, sentence, [], controls, is_scalable=True)

    def _map_values(self) -> dict[str, dict[str, list[list[int]]]]:
        places = {int(zone): place for place, zone in enumerate(zone_outlines()["zones"])}
        newest = {
            service: sorted({m.month for m in self.data.months if m.service == service})[-_MONTHS_ON_MAP:]
            for service in {found.service for found in self.pickups}
        }
        values: dict[str, dict[str, list[list[int]]]] = {
            service: {key: [[0] * len(places), [0] * len(places)] for key in (_ALL, *reversed(months))}
            for service, months in newest.items()
        }
        for found in self.pickups:
            place = places.get(_SAME_OUTLINE.get(found.zone_id or 0, found.zone_id or 0))
            if place is None:
                continue
            for key in {_ALL, found.month} & values[found.service].keys():
                trips, revenue = values[found.service][key]
                trips[place] += found.trips
                revenue[place] += round(found.revenue or 0.0)
        return values

    def _names(self) -> dict[int, str]:
        rows = self.data.rows("select_zone_names", "dim_zones")
        return {int(row["zone_id"]): f"{row['zone']}, {row['borough']}" for row in rows}


@lru_cache
def zone_outlines() -> dict[str, Any]:
    """Returns the SVG paths of the taxi zones by id, and the size of the map (see scripts/zone_outlines.py)."""
    content: dict[str, Any] = json.loads(_OUTLINES.read_text())
    return content


def _limits(values: Iterable[int]) -> list[int]:
    """Returns the lower limit of each shade, chosen so that all shades have the same number of zones."""
    found = sorted(value for value in values if value > 0)
    return [found[len(found) * shade // len(_SHADES)] for shade in range(len(_SHADES))] if found else []


def _shade(value: int, limits: list[int]) -> float:
    shades = [shade for shade, limit in zip(_SHADES, limits, strict=False) if value > 0 and value >= limit]
    return shades[-1] if shades else 0.0


def _controls(
    services: list[str],
    values: dict[str, dict[str, list[list[int]]]],
    data: ReportData,
    limits: list[int],
    shown: str,
) -> str:
    def options(pairs: Iterable[tuple[str, str]]) -> str:
        return "".join(f'<option value="{escape(value)}">{escape(name)}</option>' for value, name in pairs)

    months = sorted({month for of in values.values() for month in of if month != _ALL}, reverse=True)
    whole = {month for _, month in data.complete}
    named = [(month, month_name(month) + ("" if month in whole else " (incomplete)")) for month in months]
    boxes = "".join(
        f'<span><i style="background:{colour_of(shown)};opacity:{shade}"></i>'
        f"<b>{short(limits[at]) if limits else ''}</b></span>"
        for at, shade in enumerate(_SHADES)
    )
    return (
        '<form class="choose">'
        f'<label>Service <select name="service">{options((service, service) for service in services)}</select></label>'
        f'<label>Months <select name="month">{options([(_ALL, "All months"), *named])}</select></label>'
        f'<label>Shows <select name="measure">{options([("0", "Pick-ups"), ("1", "Revenue")])}</select></label>'
        f'</form><p class="legend">From {boxes}</p>'
        '<p class="zone" aria-live="polite">Point at a zone, or touch it, for its figures.</p>'
    )


def _json(name: str, content: object) -> Markup:
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')
