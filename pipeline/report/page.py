"""Writes the report: a page, which is a self-contained HTML file, and its charts as SVG files."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Callable
from pathlib import Path

import jinja2
from markupsafe import Markup

from pipeline.files import replace_file
from pipeline.report import loaded_files, months, payments, places, week
from pipeline.report.formatting import listed, month_name, period
from pipeline.report.sections import ReportData, Section, read_report_data
from pipeline.report.svg import COLOURS, WIDE
from pipeline.warehouses import Warehouse

# In the order of the page. To add a section, add its function here.
SECTIONS: tuple[Callable[[ReportData], Section], ...] = (
    loaded_files.coverage,
    months.section,
    places.section,
    week.section,
    payments.section,
    loaded_files.rows,
)
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(warehouse: Warehouse, title: str, page: Path, digest: str) -> None:
    """Writes each chart as an SVG file, then the page, atomically, and deletes charts of earlier versions.

    :raises PipelineError: if the warehouse cannot be queried.
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
    """Returns the sections that are not empty; none if nothing is loaded."""
    sections = [make(data) for make in SECTIONS] if data.files else []
    return [section for section in sections if section.charts or section.tables]


def render(data: ReportData, sections: list[Section], warehouse: str, digest: str, made_at: datetime.datetime) -> str:
    """Returns the page as HTML. It contains `digest`, which identifies its inputs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    script = (_TEMPLATES / "map.js").read_text()
    return environment.get_template("page.html").render(
        digest=digest,
        colours=COLOURS,
        script=Markup(script),  # a trusted file of this package
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        files=data.files,
        services=listed(sorted({file.service for file in data.files})),
        period=period(file.month for file in data.files),
        headlines=[headline for section in sections for headline in section.headlines],
        sections=sections,
        misdated=_misdated(data) if data.files else "",
        sources=sorted({file.load.source_url.rpartition("/")[0] or file.load.source_url for file in data.files}),
        made_at=f"{made_at:%d %B %Y at %H:%M} UTC".lstrip("0"),
        warehouse=warehouse,
    )


def _misdated(data: ReportData) -> str:
    """Returns a note on the trips that the charts by time do not include."""
    if not data.misdated:
        return ""
    first, last = (month_name(find(month.month for month in data.misdated)) for find in (min, max))
    trips = sum(month.trips for month in data.misdated)
    dates = first if first == last else f"{first} to {last}"
    return f"Trips dated in months that are not loaded ({dates}; {trips:,} in all) are only in the totals and places."
