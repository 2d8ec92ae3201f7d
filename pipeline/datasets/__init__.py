"""Datasets, each declared by a YAML file in this folder."""

from __future__ import annotations

import functools
from pathlib import Path

from pipeline.datasets.spec import Column, Dataset, Release, Schedule, Source, format_month, parse_month
from pipeline.datasets.spec_reader import read_spec
from pipeline.errors import PipelineError

__all__ = [
    "Column",
    "Dataset",
    "Release",
    "Schedule",
    "Source",
    "all_datasets",
    "dataset_named",
    "format_month",
    "monthly_names",
    "parse_month",
]

FOLDER = Path(__file__).parent


@functools.cache
def all_datasets() -> dict[str, Dataset]:
    """Returns all declared datasets by name, ordered by name.

    :raises PipelineError: with file and line, if one of the files is not a valid spec.
    """
    specs: dict[str, Dataset] = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        tables = {dataset.table: f"the dataset {name}" for name, dataset in specs.items()}
        specs[file.stem] = read_spec(file, tables)
    return specs


def dataset_named(name: str) -> Dataset:
    """Returns the dataset of that name.

    :raises PipelineError: if there is none.
    """
    try:
        return all_datasets()[name]
    except KeyError:
        raise PipelineError(f"there is no dataset '{name}'; there are: {', '.join(all_datasets())}") from None


def monthly_names() -> list[str]:
    """Returns the names of the datasets with one file per month: the choices of `--taxi`."""
    return [dataset.name for dataset in all_datasets().values() if dataset.is_monthly]
