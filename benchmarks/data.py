"""The input: generated release files, the same on every machine, kept so that a second run need not make them again."""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dateutil.relativedelta import relativedelta

import pipeline.sample
from benchmarks.report import tell
from pipeline.datasets import Dataset, Release, dataset_named

FOLDER = Path(__file__).parent / ".cache"
_FIRST_MONTH = datetime.date(2019, 1, 1)
_WORTH_A_LINE = 100_000  # rows: some seconds of work


@dataclass(frozen=True)
class Releases:
    """Consecutive months of one dataset, of equally many rows each, laid out like the release site."""

    spec: Dataset
    rows: int
    months: tuple[datetime.date, ...]
    mirror: Path

    def file(self, month: datetime.date) -> Path:
        release = Release(self.spec, month)
        return self.mirror / release.path_in(release.source_named("mirror"))

    @property
    def start(self) -> str:
        return f"{self.months[0]:%Y-%m}"

    @property
    def stop(self) -> str:
        """The month after the last, as RangeMonthly's --stop wants it."""
        return f"{self.months[-1] + relativedelta(months=1):%Y-%m}"


def releases(taxi: str, rows: int, months: int, cache: Path) -> Releases:
    """Returns once every month is there; no two months hold the same rows."""
    spec = dataset_named(taxi)
    found = Releases(
        spec,
        rows,
        tuple(_FIRST_MONTH + relativedelta(months=i) for i in range(months)),
        cache / "releases" / f"{_generator_version(taxi)}-{rows}",
    )
    missing = [month for month in found.months if not found.file(month).exists()]
    if missing:
        tell(f"generating {len(missing)} {taxi} month(s) of {rows:,} rows, once")
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(missing))) as pool:
            for done, _ in enumerate(pool.map(_write, [found] * len(missing), missing), start=1):
                if rows >= _WORTH_A_LINE:
                    tell(f"generated {done} of {len(missing)}")
    return found


def _write(wanted: Releases, month: datetime.date) -> None:
    # Elsewhere first: what stands under its name is whole, even after an interrupted run.
    scratch = wanted.mirror / f"making-{month:%Y-%m}"
    made = pipeline.sample.write_month(wanted.spec, month, wanted.rows, scratch)
    wanted.file(month).parent.mkdir(parents=True, exist_ok=True)
    made.replace(wanted.file(month))
    shutil.rmtree(scratch)


def _generator_version(taxi: str) -> str:
    sources = (Path(pipeline.sample.__file__), Path(pipeline.datasets.__file__).with_name(f"{taxi}.yaml"))
    return f"{taxi}-{hashlib.sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()[:8]}"
