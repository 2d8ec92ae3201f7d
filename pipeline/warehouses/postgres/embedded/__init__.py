"""The embedded PostgreSQL: a real server from a wheel, on a socket of its own, started when it is first needed.

It outlives the command that started it, so that the next one finds it running, and stops itself some minutes after
its last use.
"""

from pipeline.warehouses.postgres.embedded.server import program
from pipeline.warehouses.postgres.embedded.starting import SETTINGS, ensure_running
from pipeline.warehouses.postgres.embedded.stopping import stop

__all__ = ["SETTINGS", "ensure_running", "program", "stop"]
