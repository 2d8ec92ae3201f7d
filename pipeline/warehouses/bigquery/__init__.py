"""Google Cloud: uploads release files to Cloud Storage and loads them from there into BigQuery, exactly once."""

from pipeline.settings import GcpSettings
from pipeline.warehouses import WarehouseInfo


def _is_configured() -> bool:
    settings = GcpSettings()
    return bool(settings.project and settings.bucket)


INFO = WarehouseInfo(
    title="BigQuery",
    is_configured=_is_configured,
    load_suffix="ToBigQuery",
    loads_objects=True,
    install_hint="Google Cloud needs more packages: run `make gcp`, or pip install 'tlc-pipeline[gcp]'",
)
