"""`pipeline report`: writes the report on a warehouse, and opens it if requested."""

from __future__ import annotations

import webbrowser

from pipeline.commands import run_luigi
from pipeline.settings import StorageSettings


def run(warehouses: tuple[str, ...], show: bool) -> int:
    """Writes the report on each warehouse and prints where it is; returns the highest of Luigi's exit codes."""
    worst = 0
    for warehouse in warehouses:
        code = run_luigi(["Report", "--warehouse", warehouse])
        worst = max(worst, code)
        if code == 0:
            page = (StorageSettings().report_folder(warehouse) / "index.html").resolve().as_uri()
            print(page, flush=True)
            if show and not webbrowser.open(page):
                print("no browser could be opened")
    return worst
