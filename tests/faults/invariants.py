"""The guarantees that must hold after every trial."""

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
_UNFINISHED = "SELECT count(*) FROM pg_tables WHERE tablename LIKE '%\\_loading'"
_TABLES = """
    SELECT count(*) FROM pg_tables WHERE tablename IN ('green_tripdata', 'load_ledger', 'load_quarantine')
"""
_TOKEN = "SELECT token FROM load_lock"  # it changes with each transaction
_MARKERS = "_ledger/LoadTripdataToBigQuery/"


def violated(world: World, at_rest: bool) -> list[str]:
    """The guarantees that do not hold, one line each.

    With `at_rest`, the last command succeeded, so no unfinished table or stray object may be left either.
    """
    return _violated_in_google_cloud(world, at_rest) if world.cloud else _violated_in_postgres(world, at_rest)


def _violated_in_postgres(world: World, at_rest: bool) -> list[str]:
    if world.query(_TABLES) != [(3,)]:
        return []  # nothing has ever been loaded
    ledger = world.query(_LEDGER)
    violations = _unaccounted(world.query(_LOADED), ledger, world.query(_QUARANTINE))
    if world.query(_REPEATED) != [(0,)]:
        violations.append("an id is in the table more than once")
    if (partitions := world.query(_PARTITIONS)) != [(len(ledger),)]:
        violations.append(f"{partitions} partitions for {len(ledger)} ledger entries")
    if at_rest and (left := world.query(_UNFINISHED)) != [(0,)]:
        violations.append(f"{left} unfinished tables are left")
    return violations


def _violated_in_google_cloud(world: World, at_rest: bool) -> list[str]:
    assert world.cloud
    cloud, project = world.cloud, world.cloud.project.project
    cloud.wire.incidents.clear()  # faults that did not happen in the trial must not affect the checks
    for (owner, _), job in [*cloud.emulators.bigquery.jobs.items()]:  # the jobs of killed commands continue
        if owner == project and not job["_done"].wait(60):
            return [f"job {job['jobReference']['jobId']} does not end"]
    try:
        tables = cloud.tables()
    except NotFound:
        return []
    if not {"green_tripdata", "load_quarantine", "load_ledger", "load_lock"} <= {*tables}:
        return []
    while True:  # until nothing has changed between the queries: a request of a killed command may still arrive
        token = cloud.rows(_TOKEN)
        ledger = cloud.rows(_LEDGER)
        violations = _unaccounted(cloud.rows(_LOADED), ledger, cloud.rows(_QUARANTINE))
        if cloud.rows(_TOKEN) == token:
            break
    if cloud.rows(_REPEATED) != [(0,)]:
        violations.append("an id is in the table more than once")
    with contextlib.closing(cloud.project.bigquery()) as client:
        staged = [*client.list_tables(f"{project}.{cloud.project.staging_dataset}")]
        violations += [f"{table.table_id} never expires" for table in staged if client.get_table(table).expires is None]
    return violations + (_stray_objects(world, ledger) if at_rest else [])


def _stray_objects(world: World, ledger: list[tuple[Any, ...]]) -> list[str]:
    """Objects in the bucket that do not agree with the ledger, and markers that are not copies of the ledger's rows."""
    assert world.cloud
    cloud, violations = world.cloud, []
    names = cloud.objects()
    copies = {name: json.loads(cloud.content(name))["load_id"] for name in names if name.startswith(_MARKERS)}
    ids = dict(cloud.rows("SELECT partition_key, load_id FROM load_ledger WHERE target_table = 'green_tripdata'"))
    if copies != {f"{_MARKERS}{key}.json": load_id for key, load_id in ids.items()}:
        violations.append(f"the markers are {copies}, but the ledger has {ids}")
    for key, read, *_ in ledger:
        name = _filename(key)
        rows = cloud.content(name).count(b"\n") - 1 if name in names else None
        if rows != read:
            violations.append(f"gs://…/{name} has {rows} rows, but the ledger has rows_read = {read}")
    return violations


def _filename(partition_key: str) -> str:
    return f"{GREEN.table}_{partition_key[-7:]}.csv"


def _unaccounted(
    loaded_rows: list[tuple[Any, ...]], ledger_rows: list[tuple[Any, ...]], quarantined_rows: list[tuple[Any, ...]]
) -> list[str]:
    """Files whose loaded rows, ledger entries and quarantined rows do not agree."""
    loaded = {name: (rows, ids) for name, rows, ids in loaded_rows}
    ledger = {_filename(key): counts for key, *counts in ledger_rows}
    quarantined = {name: tuple(counts) for name, *counts in quarantined_rows}
    violations = []
    for name in sorted({*loaded, *ledger, *quarantined}):
        if name not in ledger:
            violations.append(
                f"{name}: no ledger entry for {loaded.get(name)} (rows, ids) and {quarantined.get(name)} in quarantine"
            )
            continue
        read, rows, duplicate, rejected = ledger[name]
        if loaded.get(name, (0, 0)) != (rows, rows):
            violations.append(f"{name}: the ledger has {rows} rows, the table has {loaded.get(name)} (rows, ids)")
        if quarantined.get(name, (0, 0)) != (duplicate, rejected):
            violations.append(
                f"{name}: the ledger has {duplicate} + {rejected} quarantined rows, there are {quarantined.get(name)}"
            )
        if read != rows + duplicate + rejected:
            violations.append(f"{name}: rows do not add up: {ledger[name]}")
    return violations
