"""`pipeline forget`: removes a file's rows, markers and raw copy, so that it is extracted and loaded again."""

from __future__ import annotations

import datetime

from pipeline.datasets import spec_named
from pipeline.errors import PipelineError
from pipeline.extract import remove_extracted
from pipeline.settings import gcp, postgres, storage
from pipeline.warehouses.postgres import forget


def run(taxi: str, month: datetime.date | None) -> int:
    """Says what was removed from where; what is not there needs no removing.

    :raises PipelineError: when a month is missing, or given for a dataset that has none.
    """
    spec = spec_named(taxi)
    if spec.is_monthly != (month is not None):
        raise PipelineError(f"{taxi} needs --month" if spec.is_monthly else f"{taxi} is one file and takes no --month")
    key = spec.partition_key(month)
    raw = storage().raw_file(spec.source_path(month))
    file = remove_extracted(raw)  # first, as it may fail; rows without a raw file are still whole
    rows = forget(postgres().database(), spec, month)
    removed = [f"{'removed from' if rows else 'was not in'} PostgreSQL"]
    if gcp().is_configured:
        from pipeline.warehouses.gcp import loading

        there = loading.forget(gcp().place(), spec, month)
        removed.append(f"{'removed from' if there else 'was not in'} BigQuery and gs://{gcp().bucket}")
    print(f"{key}: {'; '.join(removed)}; {raw} {'removed' if file else 'was not there'}")
    return 0
