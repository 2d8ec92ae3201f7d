"""`pipeline build`: builds the marts of a warehouse from what is loaded."""

from __future__ import annotations

from pipeline.commands import run_luigi


def run(warehouses: tuple[str, ...], full_refresh: bool) -> int:
    """Builds each warehouse and returns the highest of Luigi's exit codes."""
    options = ["--full-refresh"] if full_refresh else []
    return max(run_luigi(["DbtBuild", "--warehouse", warehouse, *options]) for warehouse in warehouses)
