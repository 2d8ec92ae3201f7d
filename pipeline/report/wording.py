"""Numbers and months as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def short(value: float, sign: str = "") -> str:
    """At most four characters and a unit: 475k, 1.7M; the sign, such as $, stands before it."""
    minus, size = "-" if value < 0 else "", abs(value)
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= unit * 0.9995:
            digits = f"{size / unit:.1f}" if size < unit * 9.95 else f"{size / unit:.0f}"
            return f"{minus}{sign}{digits.removesuffix('.0')}{name}"
    return f"{minus}{sign}{size:.0f}" if size >= 9.95 or size == round(size) else f"{minus}{sign}{size:.1f}"


def dollars(value: float) -> str:
    """To the cent: $1,722,811.81."""
    return f"{'-' if value < 0 else ''}${abs(value):,.2f}"


def percent(part: float, whole: float) -> str:
    """One decimal, except that what is there is never shown as nothing: 31.2 %, < 0.1 %."""
    share = 100 * part / whole if whole else 0.0
    return "<\u202f0.1\u202f%" if 0 < share < 0.1 else f"{share:.1f}\u202f%"


def average(value: float) -> str:
    """To one decimal where that matters; a dash for what there is none of."""
    if value != value:  # not a number
        return "-"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def listed(words: Sequence[str]) -> str:
    """Green, yellow and blue."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def month_name(month: str) -> str:
    """`2020-03` as March 2020."""
    return f"{pd.Period(month).to_timestamp():%B %Y}"


def month_abbreviation(month: str) -> str:
    """`2020-03` as Mar 2020, on one line."""
    return f"{pd.Period(month).to_timestamp():%b\u00a0%Y}"


def spans(months: Iterable[str]) -> str:
    """Months without gaps as spans: March to July 2020 and January 2021."""
    found: list[list[pd.Period]] = []
    for period in sorted({pd.Period(month, "M") for month in months}):
        if found and period == found[-1][-1] + 1:
            found[-1].append(period)
        else:
            found.append([period])
    return listed([_span(run[0], run[-1]) for run in found])


def _span(first: pd.Period, last: pd.Period) -> str:
    end = f"{last.to_timestamp():%B %Y}"
    if first == last:
        return end
    start = first.to_timestamp()
    return f"{start:%B} to {end}" if first.year == last.year else f"{start:%B %Y} to {end}"
