"""PostgreSQL: fast, exactly-once loading into tables with one partition per file."""

from pipeline.settings import PostgresSettings, StorageSettings
from pipeline.warehouses import WarehouseInfo


def _exists() -> bool:
    """Returns whether a server is configured or the embedded server's data folder exists."""
    return bool(PostgresSettings().dsn) or (StorageSettings().postgres_folder() / "PG_VERSION").exists()


INFO = WarehouseInfo(title="PostgreSQL", is_configured=lambda: True, exists=_exists)
