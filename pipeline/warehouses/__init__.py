"""Warehouses: where rows end up. Nothing below this folder knows of Luigi."""
