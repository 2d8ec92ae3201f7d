"""What must hold after every trial, whatever happened in it."""

from __future__ import annotations

from faults.world import World

_LOADED = """
    SELECT filename, count(*), count(DISTINCT unique_row_id) FROM green_tripdata GROUP BY 1 ORDER BY 1
"""
_LEDGER = """
    SELECT 'green_tripdata_' || right(partition_key, 7) || '.csv', rows_read, rows_loaded, rows_duplicate, rows_rejected
    FROM load_ledger WHERE target_table = 'green_tripdata' ORDER BY 1
"""
_QUARANTINE = """
    SELECT filename, count(*) FILTER (WHERE reason <> 'malformed'), count(*) FILTER (WHERE reason = 'malformed')
    FROM load_quarantine WHERE target_table = 'green_tripdata' GROUP BY 1 ORDER BY 1
"""
_REPEATED = "SELECT count(*) - count(DISTINCT unique_row_id) FROM green_tripdata"
_PARTITIONS = "SELECT count(*) FROM pg_partition_tree('green_tripdata') WHERE level = 1"
_IN_THE_MAKING = "SELECT count(*) FROM pg_tables WHERE tablename LIKE '%\\_loading'"
_TABLES = "SELECT count(*) FROM pg_tables WHERE tablename IN ('load_ledger', 'load_quarantine')"


def broken(world: World, at_rest: bool) -> list[str]:
    """What does not hold, a line each; `at_rest`: the last command succeeded, so nothing may be left in the making."""
    if world.query(_TABLES) != [(2,)]:
        return []  # nothing has ever been loaded
    loaded = {name: (rows, ids) for name, rows, ids in world.query(_LOADED)}
    ledger = {name: counts for name, *counts in world.query(_LEDGER)}
    aside = {name: tuple(counts) for name, *counts in world.query(_QUARANTINE)}
    found = []
    for name in sorted({*loaded, *ledger, *aside}):
        if name not in ledger:
            found.append(f"{name}: rows without a marker: {loaded.get(name)}, set aside {aside.get(name)}")
            continue
        read, rows, duplicate, rejected = ledger[name]
        if loaded.get(name, (0, 0))[0] != rows:
            found.append(f"{name}: the marker says {rows} rows, the table has {loaded.get(name)}")
        if aside.get(name, (0, 0)) != (duplicate, rejected):
            found.append(f"{name}: the marker says {duplicate} + {rejected} set aside, there are {aside.get(name)}")
        if read != rows + duplicate + rejected:
            found.append(f"{name}: rows do not add up: {ledger[name]}")
    if world.query(_REPEATED) != [(0,)]:
        found.append("an id is in the table more than once")
    if (partitions := world.query(_PARTITIONS)) != [(len(ledger),)]:
        found.append(f"{partitions} partitions for {len(ledger)} markers")
    if at_rest and (left := world.query(_IN_THE_MAKING)) != [(0,)]:
        found.append(f"{left} tables are left in the making")
    return found
