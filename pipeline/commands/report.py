"""`pipeline report`: the page on what the marts of a warehouse hold, made and opened."""

from __future__ import annotations

import webbrowser

from pipeline.commands import run_luigi
from pipeline.settings import StorageSettings


def run(warehouses: tuple[str, ...], show: bool) -> int:
    """Returns Luigi's exit code, the highest where there are two warehouses; says where each page is."""
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
