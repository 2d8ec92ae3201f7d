"""Tasks: what is done in which order. Each is thin: what it requires, what it puts out, one call that does it."""

from pipeline.tasks.extract import ExtractTripdata, ExtractZones
from pipeline.tasks.load import LoadTripdata, LoadZones

__all__ = ["ExtractTripdata", "ExtractZones", "LoadTripdata", "LoadZones"]
