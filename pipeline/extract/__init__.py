"""Extract: fetches a release file from its source and proves that it is whole before anything else sees it."""

from pipeline.extract.published import published_months
from pipeline.extract.release import ExtractedFile, extract_release, remove_extracted

__all__ = ["ExtractedFile", "extract_release", "published_months", "remove_extracted"]
