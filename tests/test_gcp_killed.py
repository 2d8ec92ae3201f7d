"""kill -9 before any request that changes something in Google Cloud: the month is loaded completely with its marker, or
not at all, and the next run loads it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gcp import GoogleCloud, new_google_cloud
from gcp_trips import FILE, forget_month, ledger_entry, load_lines
from loading_process import ProcessSource
from trips import FEBRUARY, trip, trips

from pipeline.warehouses.bigquery.resources import create_resources

CHANGE = "^(POST|PUT|DELETE) "
OLD = [*trips(4), trip(2)]
NEW = [trip(number, FEBRUARY) for number in range(3)] + [trip(0, FEBRUARY), trip(9, lpep_pickup_datetime="")]
Contents = list[tuple[Any, ...]]


def contents(cloud: GoogleCloud) -> tuple[Contents, Contents]:
    """January's rows: those in the table and those in the quarantine."""
    if "green_tripdata" not in cloud.tables():
        return [], []
    loaded = "SELECT TO_HEX(unique_row_id), STRING(lpep_pickup_datetime) FROM green_tripdata"
    rows = cloud.rows(f"{loaded} UNION ALL SELECT reason, TO_HEX(unique_row_id) FROM load_quarantine ORDER BY 1, 2")
    return [row for row in rows if "duplicate" not in row[0]], [row for row in rows if "duplicate" in row[0]]


def kill_before_each_change(
    cloud: GoogleCloud, killable_processes: ProcessSource, start: Callable[[], int]
) -> Iterator[int]:
    """Kills one process after another, each one request later; yields how many changes the killed one had requested."""
    for requests in range(50):
        process = start()
        cloud.wire.inject(
            CHANGE, skip=requests, request_dropped=True, action=lambda process=process: os.kill(process, signal.SIGKILL)
        )
        status = killable_processes.go()
        if status == 0:
            cloud.wire.incidents.clear()
            assert requests >= 5  # otherwise hardly anything was tested
            return
        assert status == -signal.SIGKILL
        yield requests
    pytest.fail("the process requests more than 50 changes")


def is_finished(cloud: GoogleCloud) -> bool:
    entry = ledger_entry(cloud)
    return entry is not None and entry.finished_at is not None


def test_first_load_that_is_killed_leaves_the_whole_month_or_nothing(
    prepared_cloud: GoogleCloud, killable_processes: ProcessSource, tmp_path: Path
) -> None:
    load_lines(prepared_cloud, OLD, tmp_path)
    loaded = contents(prepared_cloud)
    assert loaded[0] and loaded[1]
    cloud = prepared_cloud

    def start() -> int:
        nonlocal cloud
        cloud = new_google_cloud(prepared_cloud.emulators)
        create_resources(cloud.project)
        return killable_processes.start("load", cloud, write_lines(OLD, tmp_path))

    for requests in kill_before_each_change(prepared_cloud, killable_processes, start):
        assert contents(cloud) == (loaded if is_finished(cloud) else ([], [])), requests
        load_lines(cloud, OLD, tmp_path)
        assert contents(cloud) == loaded and is_finished(cloud), requests


def test_forced_load_that_is_killed_leaves_the_old_edition_or_the_new(
    prepared_cloud: GoogleCloud, killable_processes: ProcessSource, tmp_path: Path
) -> None:
    states = []
    for lines in (NEW, OLD):
        load_lines(prepared_cloud, lines, tmp_path)
        states.insert(0, contents(prepared_cloud))
    current = 0

    def start() -> int:
        return killable_processes.start("load", prepared_cloud, write_lines((OLD, NEW)[1 - current], tmp_path))

    for requests in kill_before_each_change(prepared_cloud, killable_processes, start):
        found = contents(prepared_cloud)
        assert found in states and is_finished(prepared_cloud), requests
        current = 1 - current
        load_lines(prepared_cloud, (OLD, NEW)[current], tmp_path)
        assert contents(prepared_cloud) == states[current] and is_finished(prepared_cloud), requests


def test_forget_that_is_killed_leaves_the_whole_month_or_nothing(
    prepared_cloud: GoogleCloud, killable_processes: ProcessSource, tmp_path: Path
) -> None:
    load_lines(prepared_cloud, OLD, tmp_path)
    loaded = contents(prepared_cloud)

    for requests in kill_before_each_change(
        prepared_cloud, killable_processes, lambda: killable_processes.start("forget", prepared_cloud)
    ):
        assert contents(prepared_cloud) == (loaded if is_finished(prepared_cloud) else ([], []))
        if requests % 2:
            forget_month(prepared_cloud)
            assert (contents(prepared_cloud), prepared_cloud.objects()) == (([], []), [])
        load_lines(prepared_cloud, OLD, tmp_path)
        assert contents(prepared_cloud) == loaded and is_finished(prepared_cloud)


def write_lines(lines: list[bytes], folder: Path) -> Path:
    file = folder / f"{FILE}.lines"
    file.write_bytes(b"\n".join(lines))
    return file
