"""The report: a page and its charts as files, made from the figures that a warehouse has aggregated."""

from __future__ import annotations

import datetime
from pathlib import Path

from pipeline.report.contents import sections_of
from pipeline.report.drawing import write_png
from pipeline.report.figures import read_figures
from pipeline.report.page import render
from pipeline.report.warehouse import Warehouse


def write_report(warehouse: Warehouse, page: Path, build: str) -> None:
    """Puts the page in place, complete, once each of its charts is beside it as a PNG."""
    figures = read_figures(warehouse)
    html = render(figures, warehouse.title, build, datetime.datetime.now(datetime.UTC))
    page.parent.mkdir(parents=True, exist_ok=True)
    for section in sections_of(figures):
        for chart in section.charts:
            write_png(chart.draw, page.with_name(f"{chart.name}.png"))
    part = page.with_name(f".{page.name}.part")
    part.write_text(html)
    part.replace(page)
