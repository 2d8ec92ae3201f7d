"""The section on months: trips, revenue, distance and duration, compared with the previous month and year."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import counted
from pipeline.report.formatting import (
    average,
    change,
    dollars,
    month_abbreviation,
    month_after,
    month_name,
    months_between,
    short,
)
from pipeline.report.sections import Chart, Month, ReportData, Section, Table
from pipeline.report.svg import NARROW, Svg, colour_of, round_steps

_PANEL, _TITLE, _NAMES = 150, 42, 52  # heights in pixels: the bars, and the space above and below them
_LABELS, _GAP = 44, 40  # widths in pixels: the labels on the left, and the gap between two panels
_FEWEST_SLOTS = 4  # limits the width of bars if there are few months
_SLOT_OF_LABEL, _SLOT_OF_MONTH, _WIDTH_OF_YEAR = 36, 24, 26  # minimum pixels for the label of a value, a month, a year


def section(data: ReportData) -> Section:
    """Returns the chart of all services, with tables of changes and of averages."""
    if not data.months:
        return Section("Month by month")
    months = data.months
    sentence = " ".join(_most_and_fewest(data, service) for service in data.services)
    every = months_between(min(m.month for m in months), max(m.month for m in months))
    if len(months) < len(every) * len({m.service for m in months}):
        sentence += " A month without a bar is not loaded, or has no trips."
    if any(not month.is_complete for month in months):
        sentence += " Dashed bars are incomplete months."
    tables = [_changes(data), _trip(months)]
    chart = Chart("months", lambda width: _draw(months, every, width), sentence.strip(), tables)
    return Section("Month by month", [chart])


def _most_and_fewest(data: ReportData, service: str) -> str:
    months = [month for month in data.months if month.service == service and month.is_complete]
    if not months:
        return ""
    most, fewest = max(months, key=lambda m: m.trips), min(months, key=lambda m: m.trips)
    if most is fewest:
        return f"{service}: {counted(most.trips, 'trip')} in {month_name(most.month)}."
    return (
        f"{service} had the most trips in {month_name(most.month)} ({most.trips:,})"
        f" and the fewest in {month_name(fewest.month)} ({fewest.trips:,})."
    )


def _changes(data: ReportData) -> Table:
    rows = []
    for month in data.months:
        before = [data.complete.get((month.service, month_after(month.month, -by))) for by in (1, 12)]
        earlier = before if month.is_complete else [None, None]
        trips = (change(month.trips, other.trips if other else None) for other in earlier)
        revenue = (change(month.revenue, other.revenue if other else None) for other in earlier)
        rows.append([month.marked_name, f"{month.trips:,}", *trips, dollars(month.revenue), *revenue])
    head = ["Month", "Trips", "Month before", "Year before", "Revenue", "Month before", "Year before"]
    return Table("Trips and revenue, and their change", head, rows)


def _trip(months: Sequence[Month]) -> Table:
    rows = [
        [
            month.marked_name,
            f"{month.trips / month.days:,.0f}",
            dollars(month.revenue / month.trips if month.revenue is not None else None),
            average(_mean(month.distance, month.trips_with_distance)),
            average(_mean(month.minutes, month.trips_with_duration)),
        ]
        for month in months
    ]
    head = ["Month", "Trips per day", "Revenue per trip", "Miles per trip", "Minutes per trip"]
    return Table("Averages per day and per trip", head, rows)


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _draw(months: Sequence[Month], every: Sequence[str], width: int) -> Svg:
    """Draws the trips of each service above its revenue, or beside it if there is room."""
    columns = 1 if width <= NARROW else 2
    panel = (width - _GAP * (columns - 1)) / columns
    rows: list[list[tuple[str, str]]] = []
    for service in sorted({month.service for month in months}):
        has_revenue = any(month.service == service and month.revenue is not None for month in months)
        panels = [(service, "trips"), (service, "revenue")][: 1 + has_revenue]
        rows += [panels] if columns == 2 else [[each] for each in panels]
    height = _TITLE + _PANEL + _NAMES
    svg = Svg(width, height * len(rows))
    for row, panels in enumerate(rows):
        for column, (service, measure) in enumerate(panels):
            left, top = column * (panel + _GAP), row * height + _TITLE
            svg.text(left, top - 24, f"{service}: {measure} per month", size=13, bold=True)
            of_service = {month.month: month for month in months if month.service == service}
            _bars(svg, left + _LABELS, top, panel - _LABELS, [of_service.get(m) for m in every], measure)
            _name_months(svg, left + _LABELS, top + _PANEL, panel - _LABELS, every)
    return svg


def _bars(svg: Svg, left: float, top: float, width: float, months: Sequence[Month | None], measure: str) -> None:
    sign = "$" if measure == "revenue" else ""
    values: list[float] = [getattr(month, measure, None) or 0.0 for month in months]
    low, high = min(0.0, *values), max(1.0, *values)
    slot = width / max(len(values), _FEWEST_SLOTS)

    def y(amount: float) -> float:
        return top + _PANEL * (high - amount) / (high - low)

    for step in round_steps(low, high):
        svg.line(left, y(step), left + width, y(step))
        svg.text(left - 6, y(step) + 4, short(step, sign), size=11, colour="muted", anchor="end")
    for place, (month, amount) in enumerate(zip(months, values, strict=True)):
        if month is None:
            continue
        x, thickness, colour = left + slot * (place + 0.12), slot * 0.76, colour_of(month.service)
        title = f"{month.marked_name}: {dollars(amount) if sign else counted(amount, 'trip')}"
        opacity = 1.0 if month.is_complete else 0.2
        svg.rect(x, y(0), thickness, y(amount) - y(0), colour, title, opacity=opacity, dashed=not month.is_complete)
        if slot >= _SLOT_OF_LABEL:
            svg.text(x + thickness / 2, y(max(amount, 0)) - 4, short(amount, sign), size=11, anchor="middle")


def _name_months(svg: Svg, left: float, top: float, width: float, every: Sequence[str]) -> None:
    slot = width / max(len(every), _FEWEST_SLOTS)
    for place, month in enumerate(every):
        if slot >= _SLOT_OF_MONTH:
            name = month_abbreviation(month)[:3]
            svg.text(left + slot * (place + 0.5), top + 16, name, size=11, colour="muted", anchor="middle")
    years = sorted({month[:4] for month in every})
    last_end = 0.0
    for year in years:
        places = [place for place, month in enumerate(every) if month.startswith(year)]
        middle = left + slot * (places[0] + places[-1] + 1) / 2
        if middle - _WIDTH_OF_YEAR / 2 >= last_end:
            svg.text(middle, top + 31, year, size=11, colour="muted", anchor="middle")
            last_end = middle + _WIDTH_OF_YEAR / 2 + 4
        if places[0] > 0:
            svg.line(left + slot * places[0], top, left + slot * places[0], top + 36)
