"""Logs, metrics and alerts of a run. Their failures never fail a task."""
