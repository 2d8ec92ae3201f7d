"""The web page, its HTTP API, and the central scheduler."""
