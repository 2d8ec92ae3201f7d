"""The central scheduler and its pages: Luigi's own luigid, with this project's settings."""

from pipeline.ui.server import is_loopback, serve

__all__ = ["is_loopback", "serve"]
