"""The dbt project in `dbt/`: its location, its files, the datasets that it has staging models for, and its sources."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.datasets import Dataset, Release, all_datasets, format_month
from pipeline.datasets.spec import LEDGER
from pipeline.errors import PipelineError
from pipeline.files import SHIPPED

PROJECT = SHIPPED / "dbt"
SOURCES = PROJECT / "models" / "sources.yml"
_ANY_MONTH = datetime.date(2019, 1, 1)
_PARTS = {".sql", ".yml", ".csv"}
_WRITTEN_BY_DBT = {"target", "logs", "dbt_packages", ".user.yml"}  # if somebody runs dbt in the folder
_HEADER = "# Generated from pipeline/datasets: make sources\n"
_OF_EVERY_TRIP = {
    "unique_row_id": "The md5 of the row's key.",
    "filename": "The release file that the row is from, such as green_tripdata_2019-01.csv.",
}


def modelled_datasets() -> list[Dataset]:
    """Returns the datasets that the models read: the zones, and each dataset whose table has a staging model.

    :raises PipelineError: if the files of one of them are not named after its table, by which the models know them.
    """
    staging = PROJECT / "models" / "staging"
    found = [
        dataset
        for dataset in all_datasets().values()
        if dataset.name == "zones" or (staging / f"stg_{dataset.table}.sql").exists()
    ]
    for dataset in filter(lambda dataset: dataset.is_monthly, found):
        filename = Release(dataset, _ANY_MONTH).filename
        if filename != f"{dataset.table}_{format_month(_ANY_MONTH)}.csv":
            raise PipelineError(
                f"the models cannot read {dataset.name}: its files are named like {filename}, not like its table"
                f" {dataset.table}; name the table (and its staging model) after the files, which must end in the month"
            )
    return found


def model_names() -> list[str]:
    """Returns the names of the models. Each model is a table or view of that name."""
    return sorted(file.stem for file in (PROJECT / "models").rglob("*.sql"))


def relation_names() -> list[str]:
    """Returns the names of all relations that dbt creates: models and seeds."""
    return sorted([*model_names(), *(file.stem for file in (PROJECT / "seeds").glob("*.csv"))])


def models_digest(variables: Mapping[str, object]) -> str:
    """Returns a digest of the project's files and the values of the variables."""
    digest = hashlib.sha256(json.dumps(variables, sort_keys=True).encode())
    for file in sorted(file for file in PROJECT.rglob("*") if file.suffix in _PARTS):
        if file.relative_to(PROJECT).parts[0] in _WRITTEN_BY_DBT:
            continue
        digest.update(f"\0{file.relative_to(PROJECT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def sources_yaml() -> str:
    """Returns the text of `SOURCES` for the current specs, which `make sources` writes."""
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
