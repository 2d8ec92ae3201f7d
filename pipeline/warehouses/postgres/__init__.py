"""PostgreSQL: fast, exactly-once loading into tables of one partition a file."""

from pipeline.warehouses.postgres.connection import ConnectionLost, PostgresDatabase
from pipeline.warehouses.postgres.ledger import all_loads, find_load
from pipeline.warehouses.postgres.loading import LoadJob, forget, load

__all__ = ["ConnectionLost", "LoadJob", "PostgresDatabase", "all_loads", "find_load", "forget", "load"]
