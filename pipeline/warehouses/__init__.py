"""Warehouses: where rows end up. Nothing below this folder knows of Luigi."""

WAREHOUSES = {"postgres": "PostgreSQL", "bigquery": "BigQuery"}  # by the names that options take
