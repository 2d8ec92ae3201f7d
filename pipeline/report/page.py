"""The page: one file that needs nothing beside it and no network, and its charts as files to paste elsewhere."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Callable
from pathlib import Path

import jinja2
from markupsafe import Markup

from pipeline.files import replace_file
from pipeline.report import coverage, months, places, quality, revenue, week
from pipeline.report.formatting import listed, month_name, period
from pipeline.report.sections import ReportData, Section, read_report_data
from pipeline.report.svg import COLOURS, WIDE
from pipeline.warehouses import Warehouse

# In the page's order. A new chart is a module with `section`, and its line here.
SECTIONS: tuple[Callable[[ReportData], Section], ...] = (
    coverage.section,
    months.section,
    places.section,
    week.section,
    revenue.section,
    quality.section,
)
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(warehouse: Warehouse, title: str, page: Path, digest: str) -> None:
    """Puts the page in place, complete, once each of its charts is beside it as an SVG file; older charts go.

    :raises PipelineError: when the warehouse cannot be asked.
    """
    data = read_report_data(warehouse)
    sections = make_sections(data)
    html = render(data, sections, title, digest, datetime.datetime.now(datetime.UTC))
    charts = {f"{chart.name}.svg": chart for section in sections for chart in section.charts}
    page.parent.mkdir(parents=True, exist_ok=True)
    for name, chart in charts.items():
        replace_file(page.with_name(name), chart.draw(WIDE).file())
    replace_file(page, html.encode())
    for file in {*page.parent.glob("*.svg"), *page.parent.glob("*.png")}:
        if file.name not in charts:
            file.unlink(missing_ok=True)


def make_sections(data: ReportData) -> list[Section]:
    """The sections that there is something to show in; none while nothing is loaded."""
    sections = [make(data) for make in SECTIONS] if data.files else []
    return [section for section in sections if section.charts or section.tables]


def render(data: ReportData, sections: list[Section], warehouse: str, digest: str, made_at: datetime.datetime) -> str:
    """The page as HTML; `digest` is kept in it, to tell later what it was made from."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "map.js").read_text()
    return environment.get_template("page.html").render(
        digest=digest,
        colours=COLOURS,
        script=Markup(script),  # ours
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        files=data.files,
        services=listed(sorted({file.service for file in data.files})),
        period=period(file.month for file in data.files),
        headlines=[headline for section in sections for headline in section.headlines],
        sections=sections,
        misdated=_misdated(data) if data.files else "",
        sources=sorted({file.source.rpartition("/")[0] or file.source for file in data.files}),
        made_at=f"{made_at:%d %B %Y at %H:%M} UTC".lstrip("0"),
        warehouse=warehouse,
    )


def _misdated(data: ReportData) -> str:
    """What to know about the trips that the charts by time cannot show."""
    if not data.misdated:
        return ""
    first, last = (month_name(find(month.month for month in data.misdated)) for find in (min, max))
    trips = sum(month.trips for month in data.misdated)
    dates = first if first == last else f"{first} to {last}"
    return f"Trips dated in months that are not loaded ({dates}; {trips:,} in all) are in the totals and places only."
