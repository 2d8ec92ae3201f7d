"""A Luigi pipeline for New York taxi trips: `luigi --module pipeline LoadTripdata --taxi green --month 2019-01`."""

from luigi.tools.range import RangeMonthly

from pipeline.settings import apply_environment
from pipeline.tasks import ExtractTripdata, ExtractZones, LoadTripdata, LoadZones

apply_environment()

__all__ = ["ExtractTripdata", "ExtractZones", "LoadTripdata", "LoadZones", "RangeMonthly"]
