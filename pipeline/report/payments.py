"""The section on payments: payment types and tips."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

from pipeline.report.formatting import NONE, dollars, percent, short
from pipeline.report.sections import Chart, ReportData, Section, Table
from pipeline.report.svg import ranking, services_in

_NOT_RECORDED = "Not recorded"
_UNNAMED = {"EMPTY": _NOT_RECORDED}
_CARD = "Credit card"

_Key = tuple[str, str]  # a service and a month


def section(data: ReportData) -> Section:
    """Returns the chart of payment types, with a table of tips by month."""
    trips: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    revenue: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    by_card: dict[_Key, tuple[float, float]] = {}  # the tips of the trips paid by card, and their revenue without tips
    loaded = {(month.service, month.month) for month in data.months}
    for row in data.rows("select_payments", "int_zone_revenue_by_file"):
        key = row["service"], row["month"]
        if key in loaded:
            payment = str(_UNNAMED.get(row["payment"], row["payment"]))
            trips[payment][row["service"]] += int(row["trips"])
            revenue[payment][row["service"]] += float(row["revenue"] or 0)
            if payment == _CARD:
                tips = float(row["tips"] or 0)
                by_card[key] = tips, float(row["revenue"] or 0) - tips
    return Section("How trips are paid for", [_chart(data, trips, revenue, by_card)] if trips else [])


def _chart(
    data: ReportData,
    trips: dict[str, dict[str, int]],
    revenue: dict[str, dict[str, float]],
    by_card: dict[_Key, tuple[float, float]],
) -> Chart:
    totals = {payment: sum(of.values()) for payment, of in trips.items()}
    ranked = sorted(totals, key=lambda payment: (-totals[payment], payment))
    everything = sum(totals.values())

    def label(payment: str) -> str:
        return f"{short(totals[payment])} ({percent(totals[payment], everything)})"

    def describe(payment: str, service: str) -> str:
        return f"{trips[payment][service]:,} trips, {dollars(revenue[payment][service])}"

    services = services_in(trips)
    rows = []
    for payment in ranked:
        cells = ((f"{trips[payment][service]:,}", dollars(revenue[payment][service])) for service in services)
        rows.append([payment, *chain.from_iterable(cells)])
    head = ["Payment", *(f"{service} {what}" for service in services for what in ("trips", "revenue"))]
    table = Table("Trips and revenue by payment type", head, rows)
    shares = {payment: percent(totals[payment], everything) for payment in ranked}
    recorded = [payment for payment in ranked if payment != _NOT_RECORDED]
    sentence = f"{recorded[0]} is the most common way to pay: {shares[recorded[0]]} of trips." if recorded else ""
    if _NOT_RECORDED in shares:
        sentence += f" For {shares[_NOT_RECORDED]} of trips, no payment type is recorded."
    complete = [by_card[key] for key in data.complete if key in by_card]
    if complete:
        tips, without_tips = map(sum, zip(*complete, strict=True))
        sentence += f" Tips add {percent(tips, without_tips)} to card payments; cash tips are not recorded."
    tables = [table, _tips(data, by_card)]
    return Chart("payments", lambda width: ranking(width, ranked, trips, label, describe), sentence.strip(), tables)


def _tips(data: ReportData, by_card: dict[_Key, tuple[float, float]]) -> Table:
    rows = [
        [
            month.marked_name,
            dollars(month.fares),
            dollars(month.tips),
            percent(*by_card[month.service, month.month]) if (month.service, month.month) in by_card else NONE,
        ]
        for month in data.months
        if month.revenue is not None
    ]
    return Table("Fares and tips by month", ["Month", "Fares", "Tips", "Added to card payments"], rows)
