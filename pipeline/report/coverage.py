"""The section on coverage: the services, their months, and which are missing or incomplete."""

from __future__ import annotations

from pipeline.report.formatting import dollars, listed, month_name, months_between, short, spans
from pipeline.report.sections import Headline, ReportData, Section, Table


def section(data: ReportData) -> Section:
    """Returns a table with a row for each service, and the totals as headlines."""
    return Section("What this covers", tables=[(_sentence(data), _table(data))], headlines=_headlines(data))


def _table(data: ReportData) -> Table:
    rows = []
    for service in sorted({file.service for file in data.files}):
        files = [file for file in data.files if file.service == service]
        months = sorted(file.month for file in files)
        missing = sorted(set(months_between(months[0], months[-1])) - set(months))
        incomplete = [month.month for month in data.months if month.service == service and not month.is_complete]
        trips = sum(month.trips for month in data.months + data.misdated if month.service == service)
        rows.append(
            [
                service,
                spans(months),
                spans(missing) or "none",
                spans(incomplete) or "none",
                f"{trips:,}",
                f"{max(file.loaded_at for file in files):%d %b %Y}".lstrip("0"),
            ]
        )
    return Table("What this covers", ["Service", "Months", "Missing", "Incomplete", "Trips", "Last loaded"], rows)


def _sentence(data: ReportData) -> str:
    newest = max(file.month for file in data.files)
    sentences = [f"The newest month is {month_name(newest)}."]
    if data.built_at:
        sentences.append(f"The marts were built on {data.built_at:%d %B %Y at %H:%M} UTC.".replace(" on 0", " on "))
    if any(not month.is_complete for month in data.months):
        sentences.append(
            "Incomplete months have trips on few of their days, as samples and months in progress do: they are marked,"
            " and kept out of averages, comparisons and what is called busiest."
        )
    return " ".join(sentences)


def _headlines(data: ReportData) -> list[Headline]:
    all_months = data.months + data.misdated
    trips = sum(month.trips for month in all_months)
    if not trips:
        return []
    headlines = [Headline("Trips", f"{trips:,}", f"by {listed(data.services)} taxis")]
    paying = [month for month in all_months if month.revenue is not None]
    if paying:
        revenue = sum(month.revenue or 0.0 for month in paying)
        headlines += [
            Headline("Revenue", short(revenue, "$"), dollars(revenue)),
            Headline(
                "Revenue a trip",
                dollars(revenue / sum(month.trips for month in paying)),
                "tips by card, tolls and taxes included",
            ),
        ]
    return headlines
