"""Tasks: what is done in which order. Each is thin: what it requires, what it puts out, one call that does it."""

from pipeline.tasks.catch_up import CatchUpMonthly
from pipeline.tasks.dbt_build import DbtBuild
from pipeline.tasks.extract import ExtractTripdata, ExtractZones
from pipeline.tasks.gcp_setup import SetupGcp
from pipeline.tasks.load import LoadTripdata, LoadZones
from pipeline.tasks.load_bigquery import LoadTripdataToBigQuery, LoadZonesToBigQuery
from pipeline.tasks.reconcile import ReconcileTripdata
from pipeline.tasks.report import Report
from pipeline.tasks.upload import UploadTripdata, UploadZones
from pipeline.tasks.whole_month import ModelTripdata, TripdataPipeline

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
