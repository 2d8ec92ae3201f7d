"""The Luigi tasks. Each declares its requirements and its output, and delegates its work to another package."""

from pipeline.tasks.catch_up import CatchUpMonthly
from pipeline.tasks.extract import ExtractTripdata, ExtractZones
from pipeline.tasks.load import LoadTripdata, LoadTripdataToBigQuery, LoadZones, LoadZonesToBigQuery
from pipeline.tasks.marts import DbtBuild, ModelTripdata, Report, TripdataPipeline
from pipeline.tasks.reconcile import ReconcileTripdata
from pipeline.tasks.upload import SetupGcp, UploadTripdata, UploadZones

__all__ = [
    "CatchUpMonthly",
    "DbtBuild",
    "ExtractTripdata",
    "ExtractZones",
    "LoadTripdata",
    "LoadTripdataToBigQuery",
    "LoadZones",
    "LoadZonesToBigQuery",
    "ModelTripdata",
    "ReconcileTripdata",
    "Report",
    "SetupGcp",
    "TripdataPipeline",
    "UploadTripdata",
    "UploadZones",
]
