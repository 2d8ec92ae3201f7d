"""The report's charts. Each is drawn for a wide page and, laid out otherwise, for a phone."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.report.drawing import GREEN, GRID, INK, MUTED, OTHER, PAPER, YELLOW, Layout, add_axes, write
from pipeline.report.wording import WEEKDAYS, short

_PANEL, _TITLE, _MONTHS = 150, 42, 52  # pixels: the bars of a month chart, what is above and what is below them
_FEWEST_SLOTS = 4  # bars of a lone month are not the width of the page
_SLOT_OF_LABEL, _SLOT_OF_MONTH, _WIDTH_OF_YEAR = 36, 24, 26  # pixels that a value, a month, a year needs
_LONGEST_NAME = 40  # characters of a place
_FAINTEST = 0.04


def colour_of(service: str) -> str:
    """The colour that a service has in every chart."""
    return {"Green": GREEN, "Yellow": YELLOW}.get(service, OTHER)


def draw_months(by_month: pd.DataFrame, layout: Layout) -> Figure:
    """Bars of trips and of revenue by month, a row of panels a service, each with a scale of its own."""
    columns, gap = (1, 0) if layout.is_narrow else (2, 40)
    panels = [(service, measure) for service in by_month["service"].unique() for measure in ("trips", "revenue")]
    row = _TITLE + _PANEL + _MONTHS
    figure = layout.figure(row * len(panels) / columns)
    width = (layout.width - gap * (columns - 1)) / columns
    months = pd.period_range(by_month["month"].min(), by_month["month"].max(), freq="M")
    for number, (service, measure) in enumerate(panels):
        left, top = (number % columns) * (width + gap), (number // columns) * row + _TITLE
        axes = add_axes(figure, left + 44, top, width - 44, _PANEL)
        values = by_month[by_month["service"] == service].set_index("month")[measure]
        sign = "$" if measure == "revenue" else ""
        _bars(axes, values.reindex(months.astype(str)), colour_of(service), sign, width - 44)
        title = f"{service} taxis: {'revenue' if sign else 'trips'} a month"
        write(axes, axes.get_xlim()[0], axes.get_ylim()[1], title, size=13, offset=(-44, 24), bold=True)
    return figure


def _bars(axes: Axes, values: pd.Series[float], colour: str, sign: str, width: float) -> None:
    axes.bar(range(len(values)), values.fillna(0), width=0.76, color=colour, clip_on=False, zorder=2)
    slots = max(len(values), _FEWEST_SLOTS)
    axes.set_xlim(-0.5, slots - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value, sign)))
    axes.set_ylim(min(0, values.min()), max(1, values.max()))
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    axes.hlines(ticks, -0.5, slots - 0.5, color=GRID, linewidth=0.8, clip_on=False, zorder=1)
    if width / slots >= _SLOT_OF_LABEL:
        for place, value in enumerate(values):
            if not np.isnan(value):
                write(axes, place, max(value, 0), short(value, sign), size=11, offset=(0, 4), ha="center")
    _name_months(axes, pd.PeriodIndex(values.index, freq="M"), width / slots)


def _name_months(axes: Axes, months: pd.PeriodIndex, slot: float) -> None:
    bottom = axes.get_ylim()[0]
    if slot >= _SLOT_OF_MONTH:
        for place, month in enumerate(months):
            name = f"{month.to_timestamp():%b}"
            write(axes, place, bottom, name, size=11, offset=(0, -16), colour=MUTED, ha="center")
    for year in sorted(set(months.year)):
        places = np.flatnonzero(months.year == year)
        if len(places) * slot >= _WIDTH_OF_YEAR or len(months) == 1:
            write(axes, places.mean(), bottom, str(year), size=11, offset=(0, -31), colour=MUTED, ha="center")
        if places[0] > 0:
            line = {"arrowstyle": "-", "color": GRID}
            axes.annotate("", (places[0] - 0.5, bottom), (0, -36), textcoords="offset points", arrowprops=line)


def draw_ranking(ranking: pd.DataFrame, layout: Layout) -> Figure:
    """Ranked bars, one a row of the table, of a piece a column; the names beside them or, on a phone, above."""
    legend = 30 if len(ranking.columns) > 1 else 0
    names = [textwrap.shorten(name, _LONGEST_NAME, placeholder="…") for name in ranking.index]
    row, label, value = (42, 0, 48) if layout.is_narrow else (28, 20 + 7 * max(map(len, names)), 56)
    figure = layout.figure(legend + row * len(ranking))
    axes = add_axes(figure, label, legend, layout.width - label - value, row * len(ranking))
    totals = ranking.sum(axis="columns")
    axes.set(xlim=(0, max(1, totals.max())), ylim=(len(ranking) - 0.5, -0.5))
    places, start = np.arange(len(ranking)), np.zeros(len(ranking))
    shift, thickness = (0.17, 0.36) if layout.is_narrow else (0.0, 0.64)
    for service in ranking.columns:
        colour = colour_of(service)
        axes.barh(places + shift, ranking[service], thickness, left=start, color=colour, clip_on=False, label=service)
        start = start + ranking[service].to_numpy()
    for place, (name, total) in enumerate(zip(names, totals, strict=True)):
        write(axes, total, place + shift, short(total), offset=(6, -4))
        if layout.is_narrow:
            write(axes, 0, place + shift, name, offset=(0, 13))
        else:
            write(axes, 0, place, name, offset=(-10, -4), ha="right")
    if legend:
        _legend(figure, axes, label)
    return figure


def _legend(figure: Figure, axes: Axes, left: float) -> None:
    place = (left / (72 * figure.get_figwidth()), 1)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=place,
        ncols=len(axes.containers),
        fontsize=12,
        labelcolor=INK,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1,
        handleheight=1,
    )


def draw_week(week: pd.DataFrame, service: str, layout: Layout) -> Figure:
    """Trips in an average hour: hours across and weekdays down, on a phone the other way round."""
    colour, most = colour_of(service), float(np.nanmax(week.to_numpy()))
    table = week.T if layout.is_narrow else week
    left, top, cell = (36, 58, 22) if layout.is_narrow else (48, 58, 30)
    figure = layout.figure(top + cell * len(table) + 4)
    axes = add_axes(figure, left, top, layout.width - left, cell * len(table))
    _cells(axes, table.to_numpy(), colour, most)
    days = [day[:3] for day in WEEKDAYS]
    hours = [f"{hour:02}" for hour in range(24)]
    across, down = (days, hours) if layout.is_narrow else (hours, days)
    for place, words in enumerate(across):
        write(axes, place + 0.5, 0, words, size=11, offset=(0, 6), colour=MUTED, ha="center")
    for place, words in enumerate(down):
        write(axes, 0, place + 0.5, words, size=11, offset=(-8, -4), colour=MUTED, ha="right")
    title = add_axes(figure, 0, 0, layout.width, 20)
    write(title, 0, 0, f"{service} taxis", size=13, offset=(0, 6), bold=True)
    _scale(figure, layout, colour, most)
    return figure


def _scale(figure: Figure, layout: Layout, colour: str, most: float) -> None:
    width = 100
    axes = add_axes(figure, layout.width - width - 150, 4, width, 14)
    _cells(axes, np.linspace(0, most, 5)[np.newaxis, :], colour, most)
    write(axes, 0, 1, "0", size=11, offset=(-6, 2), colour=MUTED, ha="right")
    write(axes, 5, 1, f"{short(most)} trips an hour", size=11, offset=(6, 2), colour=MUTED)


def _cells(axes: Axes, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], colour: str, most: float) -> None:
    """One colour from faint to full, so that it reads on light and dark and by people who see colours otherwise."""
    strength = np.nan_to_num(_FAINTEST + (1 - _FAINTEST) * values / (most or 1))
    shades = [[to_rgba(colour, float(alpha)) for alpha in row] for row in strength]
    axes.pcolormesh(np.array(shades), edgecolors=PAPER, linewidth=1.5, clip_on=False)
    axes.invert_yaxis()
