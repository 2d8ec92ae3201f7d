"""Uploads and loads generated trips into a test's own bucket and dataset, as the tasks do."""

from __future__ import annotations

import contextlib
import datetime
import threading
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import JANUARY
from gcp import GoogleCloud
from trips import write_load_job

from pipeline.datasets import Dataset, Release, dataset_named
from pipeline.progress import silent
from pipeline.warehouses import LoadJob, LoadObserver
from pipeline.warehouses.bigquery.ledger import read_snapshot
from pipeline.warehouses.bigquery.loading import forget, load
from pipeline.warehouses.bigquery.markers import BigQueryEntry
from pipeline.warehouses.bigquery.objects import ReleaseObject, upload

FAMILY = "LoadTripdataToBigQuery"
FILE = "green_tripdata_2019-01.csv"


def upload_lines(
    cloud: GoogleCloud,
    lines: Iterable[bytes],
    folder: Path,
    month: datetime.date | None = JANUARY,
    rows: int = 0,
    force: bool = False,
    **layout: Any,
) -> ReleaseObject:
    """Uploads a file of these lines; `layout` is passed on to `trips.write_load_job`."""
    job = write_load_job(lines, folder, month, **layout)
    extracted = replace(job.extracted, rows=rows)
    return upload(cloud.project, replace(job, extracted=extracted, run_id=uuid.uuid4().hex, replace=force), silent)


def load_uploaded(
    cloud: GoogleCloud, month: datetime.date | None = JANUARY, dataset: Dataset | None = None, **options: Any
) -> BigQueryEntry:
    """Loads the month's file that is in the bucket."""
    return load(
        cloud.project,
        LoadJob(FAMILY, Release(dataset or dataset_named("green"), month), uuid.uuid4().hex, **options),
        LoadObserver(),
    )


def load_release(cloud: GoogleCloud, job: LoadJob) -> BigQueryEntry:
    """Uploads and loads the file of a job."""
    upload(cloud.project, replace(job, run_id=uuid.uuid4().hex), silent)
    return load_uploaded(cloud, job.release.month, job.release.dataset, replace=job.replace)


def load_lines(
    cloud: GoogleCloud,
    lines: Iterable[bytes],
    folder: Path,
    month: datetime.date = JANUARY,
    dataset: Dataset | None = None,
    **layout: Any,
) -> BigQueryEntry:
    """Uploads and loads a file of these lines, which replaces what was loaded of the month."""
    upload_lines(cloud, lines, folder, month, force=True, dataset=dataset, **layout)
    return load_uploaded(cloud, month, dataset, replace=True)


def forget_month(cloud: GoogleCloud, month: datetime.date = JANUARY) -> bool:
    return forget(cloud.project, Release(dataset_named("green"), month))


def ledger_entry(cloud: GoogleCloud, month: datetime.date = JANUARY) -> BigQueryEntry | None:
    """The current row of a month of green in the ledger."""
    with contextlib.closing(cloud.project.bigquery()) as client:
        snapshot = read_snapshot(client, cloud.project, Release(dataset_named("green"), month))
    return snapshot.entry(FAMILY) if snapshot else None


def trips_in(cloud: GoogleCloud) -> list[tuple[str, str, str]]:
    """The id, file and pick-up time of each trip in green_tripdata."""
    return cloud.rows(
        "SELECT TO_HEX(unique_row_id), filename, STRING(lpep_pickup_datetime) FROM green_tripdata ORDER BY 1"
    )


def quarantined_rows(cloud: GoogleCloud) -> list[tuple[str, str, int]]:
    """How many rows are in the quarantine, by reason and file."""
    return cloud.rows("SELECT reason, filename, COUNT(*) FROM load_quarantine GROUP BY 1, 2 ORDER BY 1, 2")


class BlockedRequest:
    """Holds up a request, a job or one of its statements until the test sets `may_go`; `came` is set when it arrives.

    It continues after 60 s in any case.
    """

    def __init__(self, cloud: GoogleCloud, request: str) -> None:
        self.arrived, self.may_continue = threading.Event(), threading.Event()
        cloud.wire.inject(request, action=self._hold)

    def _hold(self) -> None:
        self.arrived.set()
        self.may_continue.wait(60)
