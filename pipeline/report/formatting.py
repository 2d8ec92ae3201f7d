"""Formats numbers, months and lists for the report."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence

from dateutil.relativedelta import relativedelta

from pipeline.datasets import format_month, parse_month
from pipeline.datasets.month_range import Months

NONE = "-"
_MOST_SPANS = 2


def short(value: float, sign: str = "") -> str:
    """Formats a number in at most four characters and a unit, such as 475k or 1.7M, after `sign`, such as $."""
    minus, size = "-" if value < 0 else "", abs(value)
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= unit * 0.9995:
            digits = f"{size / unit:.1f}" if size < unit * 9.95 else f"{size / unit:.0f}"
            return f"{minus}{sign}{digits.removesuffix('.0')}{name}"
    return f"{minus}{sign}{size:.0f}" if size >= 9.95 or size == round(size) else f"{minus}{sign}{size:.1f}"


def dollars(value: float | None) -> str:
    """Formats an amount to the cent: $1,722,811.81."""
    return NONE if value is None else f"{'-' if value < 0 else ''}${abs(value):,.2f}"


def percent(part: float, whole: float) -> str:
    """Formats a share with one decimal: 31.2 %; a small share is < 0.1 % rather than zero."""
    share = 100 * part / whole if whole else 0.0
    return "<\u202f0.1\u202f%" if 0 < share < 0.1 else f"{share:.1f}\u202f%"


def change(now: float | None, before: float | None) -> str:
    """Formats a relative change: +12.3 %; a dash if there is nothing to compare with."""
    if now is None or not before or before < 0:
        return NONE
    return f"{100 * (now - before) / before:+.1f}\u202f%"


def average(value: float | None) -> str:
    """Formats an average, with one decimal below 10; a dash for None."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def listed(words: Sequence[str]) -> str:
    """Joins words as in `Green, yellow and blue`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def month_name(month: str) -> str:
    """Formats `2020-03` as March 2020."""
    year, number = month.split("-")
    return f"{calendar.month_name[int(number)]} {int(year)}"


def month_abbreviation(month: str) -> str:
    """Formats `2020-03` as Mar 2020, with a non-breaking space."""
    year, number = month.split("-")
    return f"{calendar.month_abbr[int(number)]}\u00a0{int(year)}"


def month_after(month: str, by: int = 1) -> str:
    """Returns the month that is `by` months later, or earlier if `by` is negative."""
    return format_month(parse_month(month) + relativedelta(months=by))


def months_between(first: str, last: str) -> list[str]:
    """Returns every month from the first to the last."""
    return [format_month(month) for month in Months(parse_month(first), parse_month(last))]


def spans(months: Iterable[str]) -> str:
    """Formats months as ranges without gaps: March to July 2020 and January 2021."""
    return listed([_span(run) for run in _runs(months)])


def period(months: Iterable[str]) -> str:
    """Formats months like `spans`, or as `10 months between March 2020 and November 2025` if there are many gaps."""
    runs = _runs(months)
    if len(runs) <= _MOST_SPANS:
        return listed([_span(run) for run in runs])
    return f"{sum(map(len, runs))} months between {month_name(runs[0][0])} and {month_name(runs[-1][-1])}"


def _runs(months: Iterable[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for month in sorted(set(months)):
        if found and month == month_after(found[-1][-1]):
            found[-1].append(month)
        else:
            found.append([month])
    return found


def _span(run: list[str]) -> str:
    first, last = run[0], run[-1]
    if first == last:
        return month_name(last)
    start = month_name(first)
    return f"{start.split()[0] if first[:4] == last[:4] else start} to {month_name(last)}"
