"""`pipeline build`: the marts of a warehouse, brought in step with what is loaded there."""

from __future__ import annotations

from pipeline.commands import run_luigi


def run(warehouses: tuple[str, ...], full_refresh: bool) -> int:
    """Returns Luigi's exit code, the highest where there are two warehouses."""
    options = ["--full-refresh"] if full_refresh else []
    return max(run_luigi(["DbtBuild", "--warehouse", warehouse, *options]) for warehouse in warehouses)
