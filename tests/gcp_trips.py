"""Made-up trips in a test's own bucket and dataset, put there as the tasks do."""

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
from trips import job_of

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
    rows: int | None = None,
    force: bool = False,
    **layout: Any,
) -> ReleaseObject:
    """Uploads a file of these lines; `trips.job_of` says what its layout may be."""
    job = job_of(lines, folder, month, **layout)
    return upload(cloud.place, replace(job, rows_expected=rows, run_id=uuid.uuid4().hex, replace=force), silent)


def load_uploaded(
    cloud: GoogleCloud, month: datetime.date | None = JANUARY, spec: Dataset | None = None, **options: Any
) -> BigQueryEntry:
    """Loads what is in the bucket."""
    return load(
        cloud.place,
        LoadJob(FAMILY, Release(spec or dataset_named("green"), month), uuid.uuid4().hex, **options),
        LoadObserver(),
    )


def load_release(cloud: GoogleCloud, job: LoadJob) -> BigQueryEntry:
    """Uploads and loads the file that a job is to load."""
    upload(cloud.place, replace(job, run_id=uuid.uuid4().hex), silent)
    return load_uploaded(cloud, job.release.month, job.release.dataset, replace=job.replace)


def load_lines(
    cloud: GoogleCloud,
    lines: Iterable[bytes],
    folder: Path,
    month: datetime.date = JANUARY,
    spec: Dataset | None = None,
    **layout: Any,
) -> BigQueryEntry:
    """Uploads and loads a file of these lines in the place of what there was of the month."""
    upload_lines(cloud, lines, folder, month, force=True, spec=spec, **layout)
    return load_uploaded(cloud, month, spec, replace=True)


def forget_month(cloud: GoogleCloud, month: datetime.date = JANUARY) -> bool:
    return forget(cloud.place, Release(dataset_named("green"), month))


def ledger_entry(cloud: GoogleCloud, month: datetime.date = JANUARY) -> BigQueryEntry | None:
    """The ledger's row of a month of green, looked up anew."""
    with contextlib.closing(cloud.place.bigquery()) as client:
        snapshot = read_snapshot(client, cloud.place, Release(dataset_named("green"), month))
    return snapshot.entry(FAMILY) if snapshot else None


def trips_in(cloud: GoogleCloud) -> list[tuple[str, str, str]]:
    """Each trip in green_tripdata: its id, its file, and when it was picked up."""
    return cloud.rows(
        "SELECT TO_HEX(unique_row_id), filename, STRING(lpep_pickup_datetime) FROM green_tripdata ORDER BY 1"
    )


def set_aside(cloud: GoogleCloud) -> list[tuple[str, str, int]]:
    """What the quarantine keeps: reason, file, how many rows."""
    return cloud.rows("SELECT reason, filename, COUNT(*) FROM load_quarantine GROUP BY 1, 2 ORDER BY 1, 2")


class Held:
    """Keeps a request from being served, or a job or one of its statements from running, until it may."""

    def __init__(self, cloud: GoogleCloud, request: str) -> None:
        self.came, self.may_go = threading.Event(), threading.Event()
        cloud.wire.happens(request, meanwhile=self._hold)

    def _hold(self) -> None:
        self.came.set()
        self.may_go.wait(60)
