"""PostgreSQL: fast, exactly-once loading into tables of one partition a file."""

from pipeline.settings import PostgresSettings, StorageSettings
from pipeline.warehouses import WarehouseInfo


def _is_there() -> bool:
    """Whether there is a server of the user's own, or an embedded one that was made."""
    return bool(PostgresSettings().dsn) or (StorageSettings().postgres_folder() / "PG_VERSION").exists()


INFO = WarehouseInfo(title="PostgreSQL", is_configured=lambda: True, is_there=_is_there)
