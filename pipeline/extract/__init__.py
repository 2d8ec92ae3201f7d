"""Extract: fetches a release file from its source and proves that it is whole before anything else sees it."""
