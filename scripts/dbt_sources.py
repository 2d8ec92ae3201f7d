"""Writes the sources of the dbt models, `dbt/models/sources.yml`, from the specs of the datasets: `make sources`."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.datasets import Dataset
from pipeline.datasets.spec import LEDGER
from pipeline.transform import modelled_datasets
from pipeline.transform.dbt_process import PROJECT

SOURCES = PROJECT / "models" / "sources.yml"
_HEADER = "# Generated from pipeline/datasets: make sources\n"
_OF_EVERY_TRIP = {
    "unique_row_id": "The md5 of the row's key.",
    "filename": "The release file that the row is from, such as green_tripdata_2019-01.csv.",
}


def sources_yaml() -> str:
    """Returns the text of `SOURCES` for the current specs."""
    source = {
        "name": "tlc",
        "description": "The tables that the pipeline loads.",
        "schema": "{{ env_var('TLC_SOURCE_SCHEMA') }}",
        "tables": [
            {
                "name": LEDGER,
                "description": "One row per loaded file: its table and month, numbers of rows and times.",
            },
            *map(_table, modelled_datasets()),
        ],
    }
    return _HEADER + yaml.safe_dump({"sources": [source]}, sort_keys=False, allow_unicode=True, width=120)


def _table(dataset: Dataset) -> dict[str, Any]:
    columns = {**(_OF_EVERY_TRIP if dataset.is_monthly else {}), **{c.name: c.description for c in dataset.columns}}
    return {
        "name": dataset.table,
        "description": dataset.title,
        "columns": [{"name": name, "description": description} for name, description in columns.items()],
    }


if __name__ == "__main__":
    SOURCES.write_text(sources_yaml())
