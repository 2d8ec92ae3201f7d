"""PostgreSQL: fast, exactly-once loading into tables of one partition a file."""

from pipeline.warehouses import WarehouseInfo

INFO = WarehouseInfo(title="PostgreSQL", is_configured=lambda: True)
