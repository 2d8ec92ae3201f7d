"""Generates release files with random rows that resemble the real ones, for tests and benchmarks.

`python -m pipeline.sample --taxi green --month 2019-01 --rows 10000 FOLDER` writes one month and the zones below
FOLDER, in the layout of the release site. Equal arguments generate equal files.
"""

from __future__ import annotations

import argparse
import calendar
import datetime
import gzip
import io
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.datasets import Column, Dataset, Release, dataset_named, monthly_names, parse_month
from pipeline.datasets.spec import MIRROR, TLC

_BLANK_SHARE = 0.25  # share of rows without vendor, flags and counts; 21 to 46 % in the green files of 2020
_OUTLIERS_PER_FILE = 4  # rows with a wrong date, as in every real file
_BLANK_TOGETHER = {"vendorid", "store_and_fwd_flag", "ratecodeid", "passenger_count", "payment_type", "trip_type"} | {
    "congestion_surcharge"
}
_BOROUGHS = ("Manhattan", "Queens", "Brooklyn", "Bronx", "Staten Island", "EWR")
_ZONES = 265

_VALUES: dict[str, Callable[[random.Random], str]] = {
    "vendorid": lambda r: r.choice("122"),
    "store_and_fwd_flag": lambda r: "Y" if r.random() < 0.01 else "N",
    "ratecodeid": lambda r: r.choice("11111111115"),
    "pulocationid": lambda r: str(r.randint(1, _ZONES)),
    "dolocationid": lambda r: str(r.randint(1, _ZONES)),
    "passenger_count": lambda r: r.choice("1111112356"),
    "trip_distance": lambda r: _amount(r.expovariate(0.3)),
    "fare_amount": lambda r: _amount(2.5 + 0.5 * r.randint(0, 100)),
    "extra": lambda r: r.choice(("0", "0", "0.5", "1", "2.75")),
    "mta_tax": lambda r: "0.5",
    "tip_amount": lambda r: "0" if r.random() < 0.6 else _amount(r.uniform(0.5, 12)),
    "tolls_amount": lambda r: "6.12" if r.random() < 0.04 else "0",
    "ehail_fee": lambda r: "",
    "improvement_surcharge": lambda r: "0.3",
    "total_amount": lambda r: _amount(r.uniform(3.3, 80)),
    "payment_type": lambda r: r.choice("11222345"),
    "trip_type": lambda r: r.choice("1112"),
    "congestion_surcharge": lambda r: r.choice(("0", "0", "2.75")),
    "sr_flag": lambda r: r.choice(("", "1")),
    "request_source": lambda r: r.choice(("A", "A", "HV0003")),
}


def write_month(dataset: Dataset, month: datetime.date, rows: int, folder: Path, source: str | None = None) -> Path:
    """Writes a generated release of a monthly dataset below `folder`; returns its path.

    The file has the format and the columns of `source`, by default of the CSV mirror if that has the dataset.
    """
    release = Release(dataset, month)
    chosen = release.source_named(source) if source else min(release.sources(), key=lambda each: each.format)
    path = folder / release.path_in(chosen)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = dataset.columns_of(month, chosen)
    if chosen.format == "parquet":
        _write_parquet(columns, _rows(dataset, columns, month, rows), path)
        return path
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as file,
    ):
        file.write(",".join(column.source_name for column in columns) + "\r\n")
        file.writelines(",".join(values) + "\r\n" for values in _rows(dataset, columns, month, rows))
    return path


def _write_parquet(columns: tuple[Column, ...], rows: Iterable[list[str]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = []
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        texts = pa.array([value or None for value in values], pa.string())
        arrays.append(texts.cast(_arrow_type(column)))
    table = pa.Table.from_arrays(arrays, names=[column.source_name for column in columns])
    pq.write_table(table, path, compression="zstd")


def _arrow_type(column: Column) -> Any:
    """Returns the type that current TLC files have for such a column."""
    import pyarrow as pa

    if column.whole:
        return pa.int32()
    types = {"text": pa.large_string(), "integer": pa.int64(), "bigint": pa.int64(), "timestamp": pa.timestamp("us")}
    return types.get(column.postgres_type, pa.float64())


def write_zones(folder: Path) -> Path:
    """Writes a zone file with made-up names below `folder`; returns its path. As in TLC's, the last two are unknown."""
    zones = Release(dataset_named("zones"))
    path = folder / zones.path_in(zones.source_named())
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ['"LocationID","Borough","Zone","service_zone"']
    lines += [
        f'{zone},"{_BOROUGHS[zone % len(_BOROUGHS)]}","Sample zone ""{zone}""","Boro Zone"'
        for zone in range(1, _ZONES - 1)
    ]
    lines += ['264,"Unknown","NV","N/A"', '265,"Unknown","NA","N/A"']  # as in TLC's own file
    path.write_bytes("".join(line + "\r\n" for line in lines).encode())
    return path


def _rows(dataset: Dataset, columns: tuple[Column, ...], month: datetime.date, rows: int) -> Iterator[list[str]]:
    rng = random.Random(f"{dataset.name} {month:%Y-%m} {rows}")
    generators = [_generator_of(column) for column in columns]
    blanks = [column.name in _BLANK_TOGETHER for column in columns]
    event = [column.name for column in columns].index(dataset.event_time or "")
    start = datetime.datetime(month.year, month.month, 1)
    seconds = calendar.monthrange(month.year, month.month)[1] * 86_400
    outliers = {rng.randrange(rows) for _ in range(min(_OUTLIERS_PER_FILE, rows // 100))}
    for i in range(rows):
        offset = (i + rng.random()) * seconds / rows  # roughly in order, like the real files
        pickup = start + datetime.timedelta(seconds=int(offset))
        if i in outliers:
            pickup = pickup.replace(year=rng.choice((2008, 2009, 2041)), day=min(pickup.day, 28))
        dropoff = pickup + datetime.timedelta(seconds=rng.randint(60, 3600))
        blank = rng.random() < _BLANK_SHARE
        yield [
            (str(pickup) if index == event else str(dropoff))
            if generate is None
            else ("" if blank and blanks[index] else generate(rng))
            for index, generate in enumerate(generators)
        ]


def _generator_of(column: Column) -> Callable[[random.Random], str] | None:
    if column.postgres_type == "timestamp":
        return None
    if generator := _VALUES.get(column.name):
        return generator
    if column.postgres_type == "text":
        return lambda r: f"B{r.randint(1, 3000):05d}"
    return lambda r: str(r.randint(0, 9))


def _amount(value: float) -> str:
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0.") else text.removesuffix(".00")


def main() -> None:
    """Writes the month given on the command line, and the zones."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sample", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to lay out the mirror")
    parser.add_argument("--taxi", choices=monthly_names(), default="green")
    parser.add_argument("--month", default="2019-01", help="such as 2019-01 (the default)")
    parser.add_argument("--source", choices=(MIRROR, TLC), help="the source to imitate (default: the mirror)")
    parser.add_argument("--rows", type=int, default=10_000, help="how many trips (default 10000)")
    arguments = parser.parse_args()
    try:
        month = parse_month(arguments.month)
    except ValueError as error:
        parser.error(str(error))
    dataset = dataset_named(arguments.taxi)
    print(f"generated, not real: {write_month(dataset, month, arguments.rows, arguments.folder, arguments.source)}")
    print(f"generated, not real: {write_zones(arguments.folder)}")


if __name__ == "__main__":
    main()
