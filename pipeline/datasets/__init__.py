"""Datasets are declared, not coded: one YAML file each in this folder, from which all else derives."""

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
    """Every declared dataset by name, in the order of their names.

    :raises PipelineError: naming file and line, when one of the files is not a valid spec.
    """
    specs: dict[str, Dataset] = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        tables = {spec.table: f"the dataset {name}" for name, spec in specs.items()}
        specs[file.stem] = read_spec(file, tables)
    return specs


def dataset_named(name: str) -> Dataset:
    """The dataset of that name.

    :raises PipelineError: when there is none.
    """
    try:
        return all_datasets()[name]
    except KeyError:
        raise PipelineError(f"no dataset is called '{name}'; there are: {', '.join(all_datasets())}") from None


def monthly_names() -> list[str]:
    """The names of the datasets that are released a file a month: the choices of `--taxi`."""
    return [spec.name for spec in all_datasets().values() if spec.is_monthly]
