"""A Parquet month compared with the CSV month of the same rows, by the processor time of client and server.

`python -m benchmarks.parquet FILE DSN SCHEMA` loads a file with ADBC, after `uv pip install adbc-driver-postgresql`.
"""

from __future__ import annotations

import datetime
import importlib.util
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Releases, releases
from benchmarks.loaders import Floor, Loader, Pipeline
from benchmarks.options import Options
from benchmarks.process import BenchmarkError, run
from benchmarks.report import Section, log, median, ratio, ratio_range, ratios, seconds
from benchmarks.server import Server
from pipeline.datasets.spec import TLC

_ADBC_SCHEMA = "bench_adbc"


@dataclass
class Adbc(Loader):
    """Loads the file's record batches by ADBC's ingest into a table that it creates, without id, checks or index."""

    server: Server
    releases: Releases
    name: str = "adbc"

    def reset(self) -> None:
        self.server.recreate_schema(_ADBC_SCHEMA)

    def load(self, month: datetime.date) -> float:
        self.reset()
        self.server.wait_until_idle()
        file = self.releases.file(month)
        took = run([sys.executable, "-m", "benchmarks.parquet", file, self.server.dsn, _ADBC_SCHEMA]).seconds
        rows = self.server.execute(f"SELECT count(*) FROM {_ADBC_SCHEMA}.trips")[0][0]
        if rows != self.releases.rows:
            raise BenchmarkError(f"ADBC loaded {rows} rows of {self.releases.rows}")
        return took


def measure_parquet(server: Server, options: Options) -> Iterator[Section]:
    """Loads each month with one loader after the other, in an order that changes, as for `load`."""
    csv = releases("green", options.rows, options.months, options.cache)
    parquet = releases("green", options.rows, options.months, options.cache, TLC)
    loaders: list[Loader] = [
        Floor(server, csv),
        Pipeline(server, csv, "bench_csv", "csv"),
        Pipeline(server, parquet, "bench_parquet", "parquet"),
    ]
    if importlib.util.find_spec("adbc_driver_postgresql"):
        loaders.append(Adbc(server, parquet))
    else:
        log("ADBC is not measured, as adbc-driver-postgresql is not installed")
    used: dict[str, list[float]] = {loader.name: [] for loader in loaders}
    taken: dict[str, list[float]] = {loader.name: [] for loader in loaders}
    for round_ in range(options.rounds):
        for loader in loaders:
            loader.reset()
        for at, month in enumerate(csv.months):
            first = (round_ + at) % len(loaders)
            for loader in loaders[first:] + loaders[:first]:
                before = _processor_seconds(server)
                taken[loader.name].append(loader.load(month))
                used[loader.name].append(_processor_seconds(server) - before)
            log(f"parquet: {month:%Y-%m}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in used.items()))
    for loader in loaders:
        loader.reset()
    yield _section(used, taken, options)


def _section(used: dict[str, list[float]], taken: dict[str, list[float]], options: Options) -> Section:
    section = Section(
        f"Parquet: one month of {options.rows:,} green rows, processor time of client and server",
        ("loader", "CPU s", "ratio to floor", "lowest … highest", "ratio to csv", "seconds"),
        notes=["csv and parquet are the pipeline, from process start to exit; adbc creates a plain table without ids."],
    )
    for name, values in used.items():
        section.samples[f"{name} (CPU s)"], section.samples[name] = values, taken[name]
        to_floor, to_csv = ratios(values, used["floor"]), ratios(values, used["csv"])
        cells = (seconds(median(values)), ratio(median(to_floor)), ratio_range(to_floor), ratio(median(to_csv)))
        section.add(name, *cells, seconds(median(taken[name])))
    return section


def _processor_seconds(server: Server) -> float:
    """Returns the processor time of the server's processes and of the commands that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + server.cpu_seconds()


def main() -> None:
    """Loads a file with ADBC."""
    import pyarrow.parquet as pq
    from adbc_driver_postgresql import dbapi  # not a dependency of the project

    file, dsn, schema = sys.argv[1:]
    with pq.ParquetFile(Path(file)) as parquet, dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("trips", parquet.iter_batches(), mode="create", db_schema_name=schema)
        connection.commit()


if __name__ == "__main__":
    main()
