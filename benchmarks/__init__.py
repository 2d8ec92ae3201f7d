"""Benchmarks that compare the pipeline with other ways to load data, on one server: `python -m benchmarks`."""
