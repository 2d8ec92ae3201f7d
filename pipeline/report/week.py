"""The section on hours: average trips in each hour of the week, over the complete months."""

from __future__ import annotations

import calendar
from collections import defaultdict
from dataclasses import dataclass

from pipeline.report.formatting import average, period, short
from pipeline.report.sections import Chart, Headline, ReportData, Section, Table
from pipeline.report.svg import NARROW, Svg, colour_of

_FAINTEST = 0.04
_HOURS = range(24)
_SHADES = 5


@dataclass(frozen=True)
class Week:
    """Average trips of a service per hour, `trips[weekday][hour]` with Monday as 0, over `months`."""

    service: str
    trips: list[list[float]]
    months: list[str]

    @property
    def hours(self) -> list[tuple[float, int, int]]:
        """The hours as (trips, weekday, hour), busiest first."""
        hours = [(trips, day, hour) for day, row in enumerate(self.trips) for hour, trips in enumerate(row)]
        return sorted(hours, key=lambda found: (-found[0], found[1], found[2]))


def section(data: ReportData) -> Section:
    """Returns a chart for each service."""
    weeks = _weeks(data)
    return Section("When trips begin", [_chart(week) for week in weeks], headlines=_headlines(weeks))


def _weeks(data: ReportData) -> list[Week]:
    found: dict[str, dict[str, dict[tuple[int, int], float]]] = defaultdict(lambda: defaultdict(dict))
    for row in data.rows("select_week", "trips_by_hour"):
        if (row["service"], row["month"]) in data.complete:
            found[row["service"]][row["month"]][int(row["weekday"]) - 1, int(row["hour"])] = float(row["trips"])
    return [_average(service, months) for service, months in sorted(found.items())]


def _average(service: str, months: dict[str, dict[tuple[int, int], float]]) -> Week:
    days = [0] * 7
    for month in months:
        first, length = calendar.monthrange(*map(int, month.split("-")))
        for day in range(length):
            days[(first + day) % 7] += 1
    trips = [
        [sum(hours.get((day, hour), 0.0) for hours in months.values()) / days[day] for hour in _HOURS]
        for day in range(7)
    ]
    return Week(service, trips, sorted(months))


def _headlines(weeks: list[Week]) -> list[Headline]:
    if not weeks:
        return []
    week = max(weeks, key=lambda week: week.hours[0][0])
    trips, day, hour = week.hours[0]
    note = f"{average(trips)} trips on average" + (f", {week.service}" if len(weeks) > 1 else "")
    return [Headline("Busiest hour", f"{calendar.day_abbr[day]} {hour:02}:00", note)]


def _chart(week: Week) -> Chart:
    busiest, quietest = week.hours[0], week.hours[-1]
    table = Table(
        f"{week.service}: trips in an average hour",
        ["Hour", *calendar.day_abbr],
        [[f"{hour:02}:00", *(average(week.trips[day][hour]) for day in range(7))] for hour in _HOURS],
    )
    sentence = (
        f"{week.service} trips are most frequent on {_when(busiest)} and least frequent on {_when(quietest)},"
        f" averaged over {period(week.months)}."
    )
    return Chart(f"week-{week.service.lower()}", lambda width: _draw(week, width), sentence, [table])


def _when(found: tuple[float, int, int]) -> str:
    trips, day, hour = found
    return f"{calendar.day_name[day]}s from {hour:02}:00 ({average(trips)} trips per hour)"


def _draw(week: Week, width: int) -> Svg:
    """Draws hours in columns and weekdays in rows, or the other way round if narrow."""
    narrow = width <= NARROW
    down, across = (24, 7) if narrow else (7, 24)
    left, top, height = (36, 74, 22) if narrow else (48, 58, 30)
    most, colour = week.hours[0][0] or 1.0, colour_of(week.service)
    svg = Svg(width, top + height * down + 4)
    cell = (width - left) / across
    names = calendar.day_abbr, [f"{hour:02}" for hour in _HOURS]
    for row in range(down):
        svg.text(
            left - 8, top + height * row + height / 2 + 4, names[narrow][row], size=11, colour="muted", anchor="end"
        )
        for column in range(across):
            day, hour = (column, row) if narrow else (row, column)
            trips = week.trips[day][hour]
            says = f"{calendar.day_name[day]} {hour:02}:00: {average(trips)} trips"
            shade = _FAINTEST + (1 - _FAINTEST) * trips / most
            svg.rect(left + cell * column, top + height * row, cell - 1.5, height - 1.5, colour, says, opacity=shade)
    for column in range(across):
        name = names[not narrow][column]
        svg.text(left + cell * (column + 0.5), top - 6, name, size=11, colour="muted", anchor="middle")
    title = week.service if narrow else f"{week.service}, {period(week.months)}"
    svg.text(0, 14, title, size=13, bold=True)
    _scale(svg, 0 if narrow else width - 264, 34 if narrow else 14, colour, most)
    return svg


def _scale(svg: Svg, left: float, base: float, colour: str, most: float) -> None:
    svg.text(left, base, "0", size=11, colour="muted")
    for shade in range(_SHADES):
        opacity = _FAINTEST + (1 - _FAINTEST) * shade / (_SHADES - 1)
        svg.rect(left + 12 + 20 * shade, base - 11, 18.5, 13, colour, opacity=opacity)
    svg.text(left + 18 + 20 * _SHADES, base, f"{short(most)} trips per hour", size=11, colour="muted")
