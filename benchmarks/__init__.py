"""Benchmarks: the pipeline against its yardsticks, side by side on one server. Run with `python -m benchmarks`."""
