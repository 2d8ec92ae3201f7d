"""`pipeline stop`: stops the embedded PostgreSQL."""

from __future__ import annotations

from pipeline.settings import PostgresSettings, StorageSettings
from pipeline.warehouses.postgres.embedded import stop


def run() -> int:
    """Stops the embedded server and waits until it has stopped. Other servers are not affected."""
    folder = StorageSettings().postgres_folder()
    if PostgresSettings().dsn:
        print("[postgres] dsn is set, so there is no embedded PostgreSQL to stop")
    else:
        print(f"the embedded PostgreSQL in {folder} {'has stopped' if stop(folder) else 'was not running'}")
    return 0
