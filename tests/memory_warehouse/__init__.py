"""A third warehouse, in the memory of one process: what a further one needs, a package and a line in `WAREHOUSES`."""

from pipeline.warehouses import WarehouseInfo

INFO = WarehouseInfo(title="Memory", is_configured=lambda: True, load_suffix="ToMemory")
