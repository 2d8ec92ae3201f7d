"""Google Cloud: release files as objects in Cloud Storage, loaded from there into BigQuery, exactly once."""

from pipeline.warehouses.gcp.project import GcpProject

__all__ = ["GcpProject"]
