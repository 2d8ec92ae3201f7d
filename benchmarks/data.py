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
from pipeline.datasets.spec import MIRROR, TLC

FOLDER = Path(__file__).parent / ".cache"
_FIRST_MONTH = datetime.date(2019, 1, 1)
_WORTH_A_LINE = 100_000  # rows: some seconds of work
_PART_ROWS = 100_000


@dataclass(frozen=True)
class Releases:
    """Consecutive months of one dataset, of equally many rows each, laid out like one of its sources."""

    spec: Dataset
    rows: int
    months: tuple[datetime.date, ...]
    mirror: Path
    source: str = MIRROR

    def file(self, month: datetime.date) -> Path:
        release = Release(self.spec, month)
        return self.mirror / release.path_in(release.source_named(self.source))

    @property
    def start(self) -> str:
        return f"{self.months[0]:%Y-%m}"

    @property
    def stop(self) -> str:
        """The month after the last, as RangeMonthly's --stop wants it."""
        return f"{self.months[-1] + relativedelta(months=1):%Y-%m}"


def releases(taxi: str, rows: int, months: int, cache: Path, source: str = MIRROR) -> Releases:
    """Returns once every month is there; no two months hold the same rows, two sources of one month do."""
    spec = dataset_named(taxi)
    found = Releases(
        spec,
        rows,
        tuple(_FIRST_MONTH + relativedelta(months=i) for i in range(months)),
        cache / "releases" / f"{_generator_version(taxi)}-{rows}{'-tlc' * (source == TLC)}",
        source,
    )
    missing = [month for month in found.months if not found.file(month).exists()]
    if missing:
        tell(f"generating {len(missing)} {taxi} month(s) of {rows:,} rows, once")
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(missing))) as pool:
            for done, _ in enumerate(pool.map(_write, [found] * len(missing), missing), start=1):
                if rows >= _WORTH_A_LINE:
                    tell(f"generated {done} of {len(missing)}")
    return found


def one_row_group(taxi: str, rows: int, cache: Path) -> Releases:
    """A Parquet month whose rows are all in one row group, as in TLC's; the rows of a short month, over and over.

    Each time a second later, so that no two are the same.
    """
    part = releases(taxi, min(rows, _PART_ROWS), 1, cache, TLC)
    found = Releases(part.spec, rows, part.months, part.mirror.with_name(f"{part.mirror.name}-{rows}-at-once"), TLC)
    file = found.file(found.months[0])
    if not file.exists():
        tell(f"generating a {taxi} month of {rows:,} rows, once")
        with ProcessPoolExecutor(1) as pool:  # whose memory is not counted in with that of later processes
            pool.submit(_write_at_once, part, found).result()
    return found


def _write_at_once(part: Releases, wanted: Releases) -> None:
    import pyarrow as pa  # which would count in, too
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def later(column: pa.ChunkedArray, seconds: int) -> pa.ChunkedArray:
        is_time = pa.types.is_timestamp(column.type)
        return pc.add(column, pa.scalar(seconds * 1_000_000, pa.duration("us"))) if is_time else column

    file = wanted.file(wanted.months[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(part.file(part.months[0]))
    times = range(-(-wanted.rows // part.rows))
    whole = pa.concat_tables(
        pa.table([later(each, seconds) for each in table.columns], schema=table.schema) for seconds in times
    )
    making = file.with_suffix(".part")
    pq.write_table(whole.slice(0, wanted.rows), making, row_group_size=wanted.rows, compression="zstd")
    making.replace(file)


def _write(wanted: Releases, month: datetime.date) -> None:
    # Elsewhere first: what stands under its name is whole, even after an interrupted run.
    scratch = wanted.mirror / f"making-{month:%Y-%m}"
    made = pipeline.sample.write_month(wanted.spec, month, wanted.rows, scratch, wanted.source)
    wanted.file(month).parent.mkdir(parents=True, exist_ok=True)
    made.replace(wanted.file(month))
    shutil.rmtree(scratch)


def _generator_version(taxi: str) -> str:
    sources = (Path(pipeline.sample.__file__), Path(pipeline.datasets.__file__).with_name(f"{taxi}.yaml"))
    return f"{taxi}-{hashlib.sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()[:8]}"
