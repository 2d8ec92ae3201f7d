"""The section on places: a map of the taxi zones, and rankings of boroughs and zones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from markupsafe import escape

from pipeline.errors import counted
from pipeline.report.formatting import dollars, listed, month_name, percent, short
from pipeline.report.sections import Chart, Headline, ReportData, Section, Table
from pipeline.report.svg import Svg, colour_of, ranking, services_in

_OUTLINES = Path(__file__).with_name("zones.json")
# TLC's shapefile has one outline for Corona (56, 57) and one for the islands in the harbour (103 to 105).
_SAME_OUTLINE = {57: 56, 104: 103, 105: 103}
_UNKNOWN = "Unknown"
_TOP_ZONES = 15
_MONTHS_ON_MAP = 24  # the newest months of each service; limits the size of the page
_SHADES = (0.08, 0.2, 0.34, 0.5, 0.66, 0.83, 1.0)
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
    charts = [
        _map(data, pickups),
        _ranking(pickups, "boroughs", "Pick-ups by borough", "Borough"),
        _ranking(pickups, "zones", "Zones with the most pick-ups", "Zone"),
    ]
    if any(found.revenue for found in pickups):
        charts.append(_ranking(pickups, "zone-revenue", "Zones with the most revenue", "Zone", by_revenue=True))
    return Section("Where trips begin", charts, headlines=_headlines(data, pickups))


def _pickups(data: ReportData) -> list[Pickups]:
    found = []
    for row in data.rows("select_zones", "int_zone_revenue_by_file"):
        borough = _UNKNOWN if row["borough"] in (None, _UNKNOWN, "N/A") else row["borough"]
        found.append(
            Pickups(
                service=row["service"],
                month=row["month"],
                zone_id=None if row["zone_id"] is None else int(row["zone_id"]),
                place=_UNKNOWN if borough == _UNKNOWN else f"{row['zone']}, {borough}",
                borough=borough,
                trips=int(row["trips"]),
                revenue=None if row["revenue"] is None else float(row["revenue"]),
            )
        )
    return found


def _headlines(data: ReportData, pickups: list[Pickups]) -> list[Headline]:
    """Returns the busiest zone of the complete months."""
    trips: dict[str, int] = defaultdict(int)
    for found in pickups:
        if (found.service, found.month) in data.complete:
            trips[found.place] += found.trips
    known = trips.keys() - {_UNKNOWN}
    if not known:
        return []
    place = max(known, key=lambda place: (trips[place], place))
    return [Headline("Busiest zone", place.split(",")[0], f"{percent(trips[place], sum(trips.values()))} of pick-ups")]


def _ranking(pickups: list[Pickups], name: str, title: str, head: str, *, by_revenue: bool = False) -> Chart:
    """Returns a chart of the top zones or boroughs, with bars that are divided by service."""
    amounts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for found in pickups:
        place = found.borough if head == "Borough" else found.place
        amounts[place][found.service] += (found.revenue or 0.0) if by_revenue else found.trips
    totals = {place: sum(of.values()) for place, of in amounts.items()}
    ranked = sorted(amounts, key=lambda place: (-totals[place], place))
    top, everything = ranked[:_TOP_ZONES], sum(totals.values())

    def full(amount: float) -> str:
        return dollars(amount) if by_revenue else f"{amount:,.0f}"

    def label(place: str) -> str:
        return short(totals[place], "$" if by_revenue else "")

    def describe(place: str, service: str) -> str:
        return full(amounts[place][service])

    services = services_in(amounts)
    several = ["All"] if len(services) > 1 else []
    rows = [
        [place, *(full(amounts[place][service]) for service in services), *([full(totals[place])] * len(several))]
        for place in top
    ]
    shares = {place: percent(totals[place], everything) for place in ranked}
    leaders = [f"{place} ({full(totals[place])}, {shares[place]})" for place in ranked if place != _UNKNOWN][:3]
    most = "Most revenue comes from" if by_revenue else "Most trips begin in"
    sentence = f"{most} {listed(leaders)}." if leaders else ""
    if _UNKNOWN in totals and not by_revenue:
        sentence += f" The {head.lower()} of {full(totals[_UNKNOWN])} trips ({shares[_UNKNOWN]}) is unknown."
    table = Table(title, [head, *services, *several], rows)
    return Chart(name, lambda width: ranking(width, top, amounts, label, describe), sentence.strip(), [table])


def _map(data: ReportData, pickups: list[Pickups]) -> Chart:
    """Returns the map, shaded by pick-ups; with `map.js` the reader selects service, month and measure."""
    values = _map_values(data, pickups)
    services = sorted(values, key=lambda service: -sum(values[service][_ALL][0]))
    zones = list(zone_outlines()["zones"])
    shown = services[0]
    trips = dict(zip(zones, values[shown][_ALL][0], strict=True))
    limits = _limits(trips.values())
    rows = data.rows("select_zone_names", "dim_zones")
    named = {int(row["zone_id"]): f"{row['zone']}, {row['borough']}" for row in rows}
    names = {zone: named.get(int(zone), f"Zone {zone}") for zone in zones}

    months = sorted({month for of in values.values() for month in of if month != _ALL}, reverse=True)
    incomplete = {
        service: [month.month for month in data.months if month.service == service and not month.is_complete]
        for service in services
    }
    form = {
        "services": services,
        "months": {month: month_name(month) for month in months},
        "colour": colour_of(shown),
        "legend": list(zip_longest(_SHADES, map(short, limits), fillvalue="")),
        "data": {
            "names": names,
            "zones": zones,
            "values": values,
            "incomplete": incomplete,
            "colours": {service: colour_of(service) for service in services},
            "shades": _SHADES,
        },
    }
    most = max(trips, key=lambda zone: trips[zone])
    sentence = f"The stronger the colour of a zone, the more {shown.lower()} trips began there: most in {names[most]}."
    if not trips[most]:
        sentence = f"No {shown.lower()} trips begin in a zone on the map."
    return Chart("map", lambda _: _draw_map(names, trips, limits, colour_of(shown)), sentence, map_form=form)


def _draw_map(names: Mapping[str, str], trips: Mapping[str, int], limits: list[int], colour: str) -> Svg:
    outlines = zone_outlines()
    paths = "".join(
        f'<path data-zone="{zone}" d="{path}" tabindex="-1" fill-opacity="{_shade(trips[zone], limits)}">'
        f"<title>{escape(names[zone])}: {counted(trips[zone], 'pick-up')}</title></path>"
        for zone, path in outlines["zones"].items()
    )
    svg = Svg(outlines["width"], outlines["height"])
    svg.raw(f'<g class="zones" fill="{colour}" stroke="var(--grid)" stroke-width="1">{paths}</g>')
    return svg


def _map_values(data: ReportData, pickups: list[Pickups]) -> dict[str, dict[str, list[list[int]]]]:
    """Returns trips and revenue of each zone on the map, by service and by month or `_ALL`."""
    places = {int(zone): place for place, zone in enumerate(zone_outlines()["zones"])}
    sums: dict[str, dict[str, list[list[float]]]] = {}
    for service in sorted({found.service for found in pickups}):
        newest = sorted({month.month for month in data.months if month.service == service})[-_MONTHS_ON_MAP:]
        sums[service] = {key: [[0.0] * len(places), [0.0] * len(places)] for key in (_ALL, *reversed(newest))}
    for found in pickups:
        place = places.get(_SAME_OUTLINE.get(found.zone_id or 0, found.zone_id or 0))
        if place is None:
            continue
        for key in {_ALL, found.month} & sums[found.service].keys():
            trips, revenue = sums[found.service][key]
            trips[place] += found.trips
            revenue[place] += found.revenue or 0.0
    return {
        service: {key: [[round(value) for value in of] for of in both] for key, both in months.items()}
        for service, months in sums.items()
    }


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
