"""The section on payments: ways of paying, and tips."""

from __future__ import annotations

from collections import defaultdict

from pipeline.report.formatting import NONE, dollars, month_abbreviation, percent, short
from pipeline.report.sections import Chart, ReportData, Section, Table
from pipeline.report.svg import Bar, Svg, colour_of, ranking

_UNNAMED = {"EMPTY": "Not recorded"}


def section(data: ReportData) -> Section:
    """Returns the chart of ways of paying, with a table of tips by month."""
    shares: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    for row in data.rows("select_payments", "int_zone_revenue_by_file"):
        month = f"{int(row['year']):04}-{int(row['month']):02}"
        if (row["service"], month) not in {(m.service, m.month) for m in data.months}:
            continue
        payment = str(_UNNAMED.get(row["payment"], row["payment"]))
        trips, revenue = shares[payment].get(row["service"], (0, 0.0))
        shares[payment][row["service"]] = trips + int(row["trips"]), revenue + float(row["revenue"] or 0)
    return Section("How trips are paid for", [_chart(data, shares)] if shares else [])


def _chart(data: ReportData, shares: dict[str, dict[str, tuple[int, float]]]) -> Chart:
    totals = {payment: sum(trips for trips, _ in of.values()) for payment, of in shares.items()}
    ranked = sorted(shares, key=lambda payment: (-totals[payment], payment))
    services = sorted({service for of in shares.values() for service in of})
    trips = sum(totals.values())

    def draw(width: int) -> Svg:
        bars = [
            Bar(
                payment,
                [
                    (colour_of(service), count, f"{payment}, {service}: {count:,} trips, {dollars(revenue)}")
                    for service, (count, revenue) in sorted(shares[payment].items())
                ],
                f"{short(totals[payment])} ({percent(totals[payment], trips)})",
            )
            for payment in ranked
        ]
        return ranking(width, bars, {service: colour_of(service) for service in services})

    table = Table(
        "Trips and revenue by way of payment",
        ["Payment", *(f"{service} {what}" for service in services for what in ("trips", "revenue"))],
        [
            [payment]
            + [
                text
                for service in services
                for count, revenue in [shares[payment].get(service, (0, 0.0))]
                for text in (f"{count:,}", dollars(revenue))
            ]
            for payment in ranked
        ],
    )
    first = ranked[0]
    sentence = f"{first} is the most common way to pay: {percent(totals[first], trips)} of trips."
    card = [m for m in data.months if m.is_complete and m.paid_by_card and m.tips is not None]
    if card:
        tips = sum(m.tips or 0 for m in card), sum(m.paid_by_card or 0 for m in card)
        sentence += f" Tips are {percent(*tips)} of what is charged to cards; cash tips are not recorded."
    return Chart("payments", draw, sentence, [table, _tips(data)])


def _tips(data: ReportData) -> Table:
    rows = [
        [
            f"{month.service} {month_abbreviation(month.month)}",
            dollars(month.fares),
            dollars(month.tips),
            percent(month.tips or 0, month.paid_by_card or 0) if month.paid_by_card else NONE,
        ]
        for month in data.months
        if month.revenue is not None
    ]
    return Table("Fares and tips a month", ["Month", "Fares", "Tips", "Tips of card payments"], rows)
