"""`pipeline forget`: removes a file's rows, markers and raw copy, so that it is extracted and loaded again."""

from __future__ import annotations

import datetime

from pipeline.datasets import Release, dataset_named
from pipeline.errors import PipelineError
from pipeline.extract.extraction import remove_extracted
from pipeline.settings import StorageSettings
from pipeline.warehouses import configured_warehouses, warehouse_info, warehouse_named


def run(taxi: str, month: datetime.date | None) -> int:
    """Says what was removed from where; what is not there needs no removing.

    :raises PipelineError: when a month is missing, or given for a dataset that has none.
    """
    dataset = dataset_named(taxi)
    if dataset.is_monthly != (month is not None):
        raise PipelineError(
            f"{taxi} needs --month" if dataset.is_monthly else f"{taxi} is one file and takes no --month"
        )
    release = Release(dataset, month)
    raw_files = [StorageSettings().raw_folder() / release.raw_path(source) for source in release.sources()]
    gone = [file for file in raw_files if remove_extracted(file)]  # first, as it may fail; rows are whole without it
    raw = ", ".join(map(str, gone)) or str(raw_files[0])
    removed, modelled = list[str](), list[str]()
    for name in configured_warehouses():
        was_there = warehouse_info(name).exists() and warehouse_named(name).forget(release)
        removed.append(f"{'removed from' if was_there else 'was not in'} {warehouse_info(name).title}")
        if was_there and warehouse_named(name).last_build():
            modelled.append(name)
    print(f"{release.key}: {'; '.join(removed)}; {raw} {'removed' if gone else 'was not there'}")
    for name in modelled:
        print(
            f"The models in {warehouse_info(name).title} hold it still. To rebuild: pipeline build --warehouse {name}"
        )
    return 0
