"""Months at a glance: which are loaded, missing in between, failed or published again."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable
from enum import StrEnum
from pathlib import Path

from dateutil.relativedelta import relativedelta

from pipeline.datasets import Dataset, Release

_LOADS = ("Extract", "Upload", "Load")  # how the names of the tasks begin whose failure keeps a month from being loaded


class State(StrEnum):
    """What there is to say of a month."""

    LOADED = "loaded"
    MISSING = "missing"  # between months that are loaded
    FAILED = "failed"  # when it was last tried
    REPUBLISHED = "republished"  # since it was loaded, as a catch-up has seen


def failed_releases(logs: Path) -> set[str]:
    """The keys of the releases whose last try, as the logs of runs tell, has failed.

    A log that cannot be read, or a line of one, is passed over.
    """
    failed: set[str] = set()
    for file in sorted(logs.glob("*.jsonl")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for text in lines:
            _take(text, failed)
    return failed


def _take(text: str, failed: set[str]) -> None:
    if '"failed"' not in text and '"done"' not in text:
        return
    try:
        line = json.loads(text)
    except ValueError:
        return
    if isinstance(line, dict) and "month" in line and str(line.get("task", "")).startswith(_LOADS):
        key = f"{line.get('dataset')}/{line['month']}"
        if line.get("event") == "failed":
            failed.add(key)
        elif line.get("event") == "done":
            failed.discard(key)


def month_states(
    dataset: Dataset, loaded: Collection[str], republished: Collection[str], failed: Collection[str]
) -> dict[datetime.date, State]:
    """The state of each month of a dataset that there is something to say of, in order; from keys of releases."""
    keys = [key for key in {*loaded, *failed} if key.startswith(f"{dataset.name}/")]
    months = [datetime.date.fromisoformat(f"{key.partition('/')[2]}-01") for key in keys]
    states: dict[datetime.date, State] = {}
    for month in _between(months):
        key = Release(dataset, month).key
        if key in republished:
            states[month] = State.REPUBLISHED
        elif key in loaded:
            states[month] = State.LOADED
        else:
            states[month] = State.FAILED if key in failed else State.MISSING
    return states


def _between(months: Iterable[datetime.date]) -> list[datetime.date]:
    ordered = sorted(months)
    if not ordered:
        return []
    span = (ordered[-1].year - ordered[0].year) * 12 + ordered[-1].month - ordered[0].month
    return [ordered[0] + relativedelta(months=at) for at in range(span + 1)]
