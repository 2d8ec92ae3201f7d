"""What became of the rows of each file, and what is odd among those that are loaded."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.datasets import Dataset, Release, parse_month
from pipeline.report.statements import statement
from pipeline.transform.project import modelled_datasets
from pipeline.warehouses import Rows, Warehouse
from pipeline.warehouses.ledger import LedgerEntry


@dataclass(frozen=True)
class FileSummary:
    """One loaded file: `read = duplicate + rejected + loaded`, and of those loaded `reported` are in the marts."""

    service: str
    month: str
    source: str
    read: int
    duplicate: int
    rejected: int
    loaded: int
    reported: int
    blank_vendors: int
    outside_month: int
    negative_fares: int


def read_files(warehouse: Warehouse) -> list[FileSummary]:
    """The figures of every loaded file of the datasets that are in the marts, by dataset and month."""
    counted = warehouse.select(statement("select_trips_by_file"), marts=["fact_trips"])
    reported = {row["filename"]: row["trips"] for row in counted}
    loads = {entry.partition_key: entry for entry in warehouse.loaded()}
    files: list[FileSummary] = []
    for spec in (spec for spec in modelled_datasets() if spec.is_monthly):
        entries = [loads[key] for key in sorted(loads) if key.startswith(f"{spec.name}/")]
        if entries:
            oddities = warehouse.select(statement("select_quality_by_file"), dataset=spec)
            files += [_file(spec, entry, oddities, reported) for entry in entries]
    return files


def _file(spec: Dataset, entry: LedgerEntry, oddities: Rows, reported: dict[str, int]) -> FileSummary:
    month = parse_month(entry.partition_key.removeprefix(f"{spec.name}/"))
    odd = [row for row in oddities if row["filename"] == Release(spec, month).filename]
    elsewhere = [row for row in odd if (row["pickup_year"], row["pickup_month"]) != (month.year, month.month)]
    return FileSummary(
        service=spec.name.capitalize(),  # as the models call it
        month=f"{month:%Y-%m}",
        source=entry.source_url,
        read=entry.rows_read,
        duplicate=entry.rows_duplicate,
        rejected=entry.rows_rejected,
        loaded=entry.rows_loaded,
        reported=reported.get(Release(spec, month).filename, 0),
        blank_vendors=sum(int(row["blank_vendors"]) for row in odd),
        outside_month=sum(int(row["trips"]) for row in elsewhere),
        negative_fares=sum(int(row["negative_fares"]) for row in odd),
    )
