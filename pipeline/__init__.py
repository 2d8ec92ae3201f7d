"""A Luigi pipeline for New York taxi trips: `luigi --module pipeline LoadTripdata --taxi green --month 2019-01`."""

import gc
import sys

from luigi.tools.range import RangeMonthly

from pipeline.errors import PipelineError

try:
    from pipeline.tasks import (
        CatchUpMonthly,
        DbtBuild,
        ExtractTripdata,
        ExtractZones,
        LoadTripdata,
        LoadTripdataToBigQuery,
        LoadZones,
        LoadZonesToBigQuery,
        ModelTripdata,
        ReconcileTripdata,
        Report,
        SetupGcp,
        TripdataPipeline,
        UploadTripdata,
        UploadZones,
    )
except PipelineError as error:
    # A mistake in a dataset's file: whatever command comes to it first, there is nothing to run.
    sys.exit(f"pipeline: {error}")

from pipeline.settings import apply_environment, apply_shipped_configuration

try:
    apply_shipped_configuration()
except PipelineError as error:
    sys.exit(f"pipeline: {error}")
apply_environment()

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
    "RangeMonthly",
    "ReconcileTripdata",
    "Report",
    "SetupGcp",
    "TripdataPipeline",
    "UploadTripdata",
    "UploadZones",
]

# What is imported by now stays to the end of the process: the collector need not look at it again, least of all when
# the process ends (which takes it 50 ms), and forked workers go on sharing its memory.
gc.freeze()
