"""The input: generated release files, equal on every machine and kept for later runs."""

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
from benchmarks.report import log
from pipeline.datasets import Dataset, Release, dataset_named
from pipeline.datasets.spec import MIRROR, TLC

FOLDER = Path(__file__).parent / ".cache"
_FIRST_MONTH = datetime.date(2019, 1, 1)
_ROWS_TO_REPORT = 100_000  # generating a month of this size takes some seconds
_PART_ROWS = 100_000


@dataclass(frozen=True)
class Releases:
    """Consecutive months of one dataset with the same number of rows, laid out like one of its sources."""

    dataset: Dataset
    rows: int
    months: tuple[datetime.date, ...]
    mirror: Path
    source: str = MIRROR

    def file(self, month: datetime.date) -> Path:
        release = Release(self.dataset, month)
        return self.mirror / release.path_in(release.source_named(self.source))

    @property
    def start(self) -> str:
        return f"{self.months[0]:%Y-%m}"

    @property
    def stop(self) -> str:
        """The month after the last one, for RangeMonthly's --stop."""
        return f"{self.months[-1] + relativedelta(months=1):%Y-%m}"


def releases(taxi: str, rows: int, months: int, cache: Path, source: str = MIRROR) -> Releases:
    """Returns the months after generating missing ones. Rows differ between months, not between sources of a month."""
    dataset = dataset_named(taxi)
    wanted = Releases(
        dataset,
        rows,
        tuple(_FIRST_MONTH + relativedelta(months=i) for i in range(months)),
        cache / "releases" / f"{_generator_version(taxi)}-{rows}{'-tlc' * (source == TLC)}",
        source,
    )
    missing = [month for month in wanted.months if not wanted.file(month).exists()]
    if missing:
        log(f"generating {len(missing)} {taxi} month(s) of {rows:,} rows for this and later runs")
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(missing))) as pool:
            for done, _ in enumerate(pool.map(_write, [wanted] * len(missing), missing), start=1):
                if rows >= _ROWS_TO_REPORT:
                    log(f"generated {done} of {len(missing)}")
    return wanted


def one_row_group(taxi: str, rows: int, cache: Path) -> Releases:
    """Generates a Parquet month whose rows are all in one row group, as in TLC's files, by repeating a short month.

    In each repetition the times are a second later, so that no two rows are the same.
    """
    part = releases(taxi, min(rows, _PART_ROWS), 1, cache, TLC)
    repeated = Releases(
        part.dataset, rows, part.months, part.mirror.with_name(f"{part.mirror.name}-{rows}-at-once"), TLC
    )
    file = repeated.file(repeated.months[0])
    if not file.exists():
        log(f"generating a {taxi} month of {rows:,} rows for this and later runs")
        with ProcessPoolExecutor(1) as pool:  # so that its memory does not count in the peak of later processes
            pool.submit(_write_repeated, part, repeated).result()
    return repeated


def _write_repeated(part: Releases, repeated: Releases) -> None:
    import pyarrow as pa  # imported in this process only, for the same reason
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def later(column: pa.ChunkedArray, seconds: int) -> pa.ChunkedArray:
        is_time = pa.types.is_timestamp(column.type)
        return pc.add(column, pa.scalar(seconds * 1_000_000, pa.duration("us"))) if is_time else column

    file = repeated.file(repeated.months[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(part.file(part.months[0]))
    times = range(-(-repeated.rows // part.rows))
    table_of_all = pa.concat_tables(
        pa.table([later(each, seconds) for each in table.columns], schema=table.schema) for seconds in times
    )
    unfinished = file.with_suffix(".part")
    pq.write_table(table_of_all.slice(0, repeated.rows), unfinished, row_group_size=repeated.rows, compression="zstd")
    unfinished.replace(file)


def _write(wanted: Releases, month: datetime.date) -> None:
    # Written elsewhere first, so that a file under its final name is complete even after an interrupted run.
    scratch = wanted.mirror / f"making-{month:%Y-%m}"
    sample = pipeline.sample.write_month(wanted.dataset, month, wanted.rows, scratch, wanted.source)
    wanted.file(month).parent.mkdir(parents=True, exist_ok=True)
    sample.replace(wanted.file(month))
    shutil.rmtree(scratch)


def _generator_version(taxi: str) -> str:
    sources = (Path(pipeline.sample.__file__), Path(pipeline.datasets.__file__).with_name(f"{taxi}.yaml"))
    return f"{taxi}-{hashlib.sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()[:8]}"
