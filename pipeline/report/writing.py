"""Putting the report in place."""

from __future__ import annotations

import datetime
from pathlib import Path

from pipeline.files import replace_file
from pipeline.report.contents import sections_of
from pipeline.report.drawing import png
from pipeline.report.figures import read_figures
from pipeline.report.page import render
from pipeline.warehouses import Warehouse


def write_report(warehouse: Warehouse, title: str, page: Path, digest: str) -> None:
    """Puts the page in place, complete, once each of its charts is beside it as a PNG; older charts go."""
    figures = read_figures(warehouse)
    html = render(figures, title, digest, datetime.datetime.now(datetime.UTC))
    charts = [chart for section in sections_of(figures) for chart in section.charts]
    page.parent.mkdir(parents=True, exist_ok=True)
    for chart in charts:
        replace_file(page.with_name(f"{chart.name}.png"), png(chart.draw))
    replace_file(page, html.encode())
    for file in set(page.parent.glob("*.png")) - {page.with_name(f"{chart.name}.png") for chart in charts}:
        file.unlink(missing_ok=True)
