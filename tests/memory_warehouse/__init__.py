"""An example of a third warehouse, in the memory of a process: a warehouse is a package and a line in `WAREHOUSES`."""

from pipeline.warehouses import WarehouseInfo

INFO = WarehouseInfo(title="Memory", is_configured=lambda: True, load_suffix="ToMemory")
