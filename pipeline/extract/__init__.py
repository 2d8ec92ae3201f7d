"""Fetches release files from their sources and verifies them before anything else uses them."""
