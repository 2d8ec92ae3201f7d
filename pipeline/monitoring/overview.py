"""Determines the state of each month: loaded, missing, failed or published again."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable
from enum import StrEnum
from pathlib import Path

from dateutil.relativedelta import relativedelta

from pipeline.datasets import Dataset, Release

_LOAD_PREFIXES = ("Extract", "Upload", "Load")  # of the tasks without which a month is not loaded


class State(StrEnum):
    """The state of a month."""

    LOADED = "loaded"
    MISSING = "missing"  # between loaded months
    FAILED = "failed"  # at the last attempt
    REPUBLISHED = "republished"  # since it was loaded, as found by a catch-up


def failed_releases(logs: Path) -> set[str]:
    """Returns the keys of the releases whose last attempt failed, according to the logs of runs.

    Skips logs and lines that cannot be read.
    """
    failed: set[str] = set()
    for file in sorted(logs.glob("*.jsonl")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for text in lines:
            _apply_line(text, failed)
    return failed


def _apply_line(text: str, failed: set[str]) -> None:
    if '"failed"' not in text and '"done"' not in text:
        return
    try:
        line = json.loads(text)
    except ValueError:
        return
    if isinstance(line, dict) and "month" in line and str(line.get("task", "")).startswith(_LOAD_PREFIXES):
        key = f"{line.get('dataset')}/{line['month']}"
        if line.get("event") == "failed":
            failed.add(key)
        elif line.get("event") == "done":
            failed.discard(key)


def month_states(
    dataset: Dataset, loaded: Collection[str], republished: Collection[str], failed: Collection[str]
) -> dict[datetime.date, State]:
    """Returns the states from the first to the last month with a state, in order; arguments are keys of releases."""
    keys = [key for key in {*loaded, *failed} if key.startswith(f"{dataset.name}/")]
    months = [datetime.date.fromisoformat(f"{key.partition('/')[2]}-01") for key in keys]
    states: dict[datetime.date, State] = {}
    for month in _month_range(months):
        key = Release(dataset, month).key
        if key in republished:
            states[month] = State.REPUBLISHED
        elif key in loaded:
            states[month] = State.LOADED
        else:
            states[month] = State.FAILED if key in failed else State.MISSING
    return states


def _month_range(months: Iterable[datetime.date]) -> list[datetime.date]:
    ordered = sorted(months)
    if not ordered:
        return []
    span = (ordered[-1].year - ordered[0].year) * 12 + ordered[-1].month - ordered[0].month
    return [ordered[0] + relativedelta(months=offset) for offset in range(span + 1)]
