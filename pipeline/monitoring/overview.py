"""Months at a glance: which are loaded, missing in between, failed or published again; from ledgers and run logs."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from dateutil.relativedelta import relativedelta

from pipeline.datasets import Dataset, Release

_REPUBLISHED = re.compile(r"(\w+) (\d{4}-\d{2}) was published again")
_LOADS = ("Extract", "Upload", "Load")  # how the names of the tasks begin whose failure keeps a month from being loaded


class State(StrEnum):
    """What there is to say of a month."""

    LOADED = "loaded"
    MISSING = "missing"  # between months that are loaded
    FAILED = "failed"  # when it was last tried
    REPUBLISHED = "republished"  # since it was loaded, as a catch-up has seen


def release_news(logs: Path) -> dict[str, tuple[State, datetime.datetime]]:
    """The latest of each release that the logs of runs tell: that it failed, or was published again, and when.

    A log that cannot be read, or a line of one, is passed over.
    """
    news: dict[str, tuple[State, datetime.datetime]] = {}
    for file in sorted(logs.glob("*.jsonl")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for text in lines:
            _take(text, news)
    return news


def _take(text: str, news: dict[str, tuple[State, datetime.datetime]]) -> None:
    if '"failed"' not in text and '"done"' not in text and "published again" not in text:
        return
    try:
        line = json.loads(text)
        at = datetime.datetime.fromisoformat(line["time"])
    except (ValueError, KeyError, TypeError):
        return
    if found := _REPUBLISHED.match(line.get("message", "")):
        news[f"{found[1]}/{found[2]}"] = State.REPUBLISHED, at
    elif "month" in line and line.get("task", "").startswith(_LOADS):
        key = f"{line['dataset']}/{line['month']}"
        if line.get("event") == "failed":
            news[key] = State.FAILED, at
        elif line.get("event") == "done" and news.get(key, (None,))[0] is State.FAILED:
            del news[key]


def month_states(
    dataset: Dataset,
    loaded: Mapping[str, datetime.datetime | None],
    news: Mapping[str, tuple[State, datetime.datetime]],
) -> dict[datetime.date, State]:
    """The state of each month of a dataset that there is something to say of, in order; `loaded`: when, by key."""
    keys = [key for key in {*loaded, *news} if key.startswith(f"{dataset.name}/")]
    found = {key: _state(key, loaded, news) for key in keys}
    months = [datetime.date.fromisoformat(f"{key.partition('/')[2]}-01") for key, state in found.items() if state]
    states: dict[datetime.date, State] = {}
    for month in _between(months):
        states[month] = found.get(Release(dataset, month).key) or State.MISSING
    return states


def _state(
    key: str, loaded: Mapping[str, datetime.datetime | None], news: Mapping[str, tuple[State, datetime.datetime]]
) -> State | None:
    state, at = news.get(key, (None, None))
    if key not in loaded:
        return State.FAILED if state is State.FAILED else None
    finished = loaded[key]
    return State.REPUBLISHED if state is State.REPUBLISHED and finished and at and at > finished else State.LOADED


def _between(months: Iterable[datetime.date]) -> list[datetime.date]:
    ordered = sorted(months)
    if not ordered:
        return []
    span = (ordered[-1].year - ordered[0].year) * 12 + ordered[-1].month - ordered[0].month
    return [ordered[0] + relativedelta(months=at) for at in range(span + 1)]
