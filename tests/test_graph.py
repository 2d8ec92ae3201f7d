"""The graph of tasks in the README."""

from __future__ import annotations

import importlib.util

from conftest import CHECKOUT


def test_graph_in_readme_matches_the_tasks() -> None:
    spec = importlib.util.spec_from_file_location("graph", CHECKOUT / "docs" / "graph.py")
    assert spec and spec.loader
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)

    assert drawing.BLOCK.findall(drawing.README.read_text()) == [drawing.graph()], "run `make graph`"
    assert "    ExtractTripdata --> LoadTripdata\n" in drawing.graph()
