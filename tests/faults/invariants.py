"""What must hold after every trial, whatever happened in it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from google.api_core.exceptions import NotFound

from faults.world import GREEN, World

_LOADED = "SELECT filename, count(*), count(DISTINCT unique_row_id) FROM green_tripdata GROUP BY 1 ORDER BY 1"
_LEDGER = """
    SELECT partition_key, rows_read, rows_loaded, rows_duplicate, rows_rejected
    FROM load_ledger WHERE target_table = 'green_tripdata' AND finished_at IS NOT NULL ORDER BY 1
"""
_QUARANTINE = """
    SELECT
        filename,
        sum(CASE WHEN reason <> 'malformed' THEN 1 ELSE 0 END),
        sum(CASE WHEN reason = 'malformed' THEN 1 ELSE 0 END)
    FROM load_quarantine WHERE target_table = 'green_tripdata' GROUP BY 1 ORDER BY 1
"""
_REPEATED = "SELECT count(*) - count(DISTINCT unique_row_id) FROM green_tripdata"
_PARTITIONS = "SELECT count(*) FROM pg_partition_tree('green_tripdata') WHERE level = 1"
_IN_THE_MAKING = "SELECT count(*) FROM pg_tables WHERE tablename LIKE '%\\_loading'"
_TABLES = """
    SELECT count(*) FROM pg_tables WHERE tablename IN ('green_tripdata', 'load_ledger', 'load_quarantine')
"""
_TOKEN = "SELECT token FROM load_lock"  # changes with each transaction
_MARKERS = "_ledger/LoadTripdataToBigQuery/"


def broken(world: World, at_rest: bool) -> list[str]:
    """What does not hold, a line each; `at_rest`: the last command succeeded, so nothing may be left in the making."""
    return _broken_in_google_cloud(world, at_rest) if world.cloud else _broken_in_postgres(world, at_rest)


def _broken_in_postgres(world: World, at_rest: bool) -> list[str]:
    if world.query(_TABLES) != [(3,)]:
        return []  # nothing has ever been loaded
    ledger = world.query(_LEDGER)
    found = _unaccounted(world.query(_LOADED), ledger, world.query(_QUARANTINE))
    if world.query(_REPEATED) != [(0,)]:
        found.append("an id is in the table more than once")
    if (partitions := world.query(_PARTITIONS)) != [(len(ledger),)]:
        found.append(f"{partitions} partitions for {len(ledger)} markers")
    if at_rest and (left := world.query(_IN_THE_MAKING)) != [(0,)]:
        found.append(f"{left} tables are left in the making")
    return found


def _broken_in_google_cloud(world: World, at_rest: bool) -> list[str]:
    assert world.cloud
    cloud, project = world.cloud, world.cloud.place.project
    cloud.wire.incidents.clear()  # those that did not come are not for what follows
    for (of, _), job in [*cloud.emulators.bigquery.jobs.items()]:  # those of killed commands go on
        if of == project and not job["_done"].wait(60):
            return [f"job {job['jobReference']['jobId']} does not end"]
    try:
        tables = cloud.tables()
    except NotFound:
        return []
    if not {"green_tripdata", "load_quarantine", "load_ledger", "load_lock"} <= {*tables}:
        return []
    while True:  # until nothing changed meanwhile: a request of a killed command may be on its way
        token = cloud.rows(_TOKEN)
        ledger = cloud.rows(_LEDGER)
        found = _unaccounted(cloud.rows(_LOADED), ledger, cloud.rows(_QUARANTINE))
        if cloud.rows(_TOKEN) == token:
            break
    if cloud.rows(_REPEATED) != [(0,)]:
        found.append("an id is in the table more than once")
    with contextlib.closing(cloud.place.bigquery()) as client:
        staged = [*client.list_tables(f"{project}.{cloud.place.staging_dataset}")]
        found += [f"{table.table_id} never expires" for table in staged if client.get_table(table).expires is None]
    return found + (_stray_objects(world, ledger) if at_rest else [])


def _stray_objects(world: World, ledger: list[tuple[Any, ...]]) -> list[str]:
    """Objects that are not what the ledger says of them, and copies of the ledger's rows that are none."""
    assert world.cloud
    cloud, found = world.cloud, []
    names = cloud.objects()
    copies = {name: json.loads(cloud.content(name))["load_id"] for name in names if name.startswith(_MARKERS)}
    ids = dict(cloud.rows("SELECT partition_key, load_id FROM load_ledger WHERE target_table = 'green_tripdata'"))
    if copies != {f"{_MARKERS}{key}.json": load_id for key, load_id in ids.items()}:
        found.append(f"the ledger's copies are {copies}, and it has {ids}")
    for key, read, *_ in ledger:
        name = _filename(key)
        rows = cloud.content(name).count(b"\n") - 1 if name in names else None
        if rows != read:
            found.append(f"gs://…/{name} has {rows} rows, and the ledger says that {read} were read")
    return found


def _filename(partition_key: str) -> str:
    return f"{GREEN.table}_{partition_key[-7:]}.csv"


def _unaccounted(
    loaded_rows: list[tuple[Any, ...]], ledger_rows: list[tuple[Any, ...]], aside_rows: list[tuple[Any, ...]]
) -> list[str]:
    """Files whose rows, markers and quarantined rows do not agree."""
    loaded = {name: (rows, ids) for name, rows, ids in loaded_rows}
    ledger = {_filename(key): counts for key, *counts in ledger_rows}
    aside = {name: tuple(counts) for name, *counts in aside_rows}
    found = []
    for name in sorted({*loaded, *ledger, *aside}):
        if name not in ledger:
            found.append(f"{name}: rows without a marker: {loaded.get(name)}, set aside {aside.get(name)}")
            continue
        read, rows, duplicate, rejected = ledger[name]
        if loaded.get(name, (0, 0)) != (rows, rows):
            found.append(f"{name}: the marker says {rows} rows, the table has {loaded.get(name)} (rows, ids)")
        if aside.get(name, (0, 0)) != (duplicate, rejected):
            found.append(f"{name}: the marker says {duplicate} + {rejected} set aside, there are {aside.get(name)}")
        if read != rows + duplicate + rejected:
            found.append(f"{name}: rows do not add up: {ledger[name]}")
    return found
