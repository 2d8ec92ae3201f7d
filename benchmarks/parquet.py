"""A Parquet month against the CSV month of the same rows, by the processor time of client and server.

`python -m benchmarks.parquet FILE DSN SCHEMA` is ADBC, which needs `uv pip install adbc-driver-postgresql`.
"""

from __future__ import annotations

import datetime
import importlib.util
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contestants import Contestant, Floor, Pipeline
from benchmarks.data import Releases, releases
from benchmarks.options import Options
from benchmarks.process import BenchmarkError, run
from benchmarks.report import Section, median, ratio, ratio_range, ratios, seconds, tell
from benchmarks.server import Server
from pipeline.datasets.spec import TLC

_ADBC_SCHEMA = "bench_adbc"


@dataclass
class Adbc(Contestant):
    """ADBC's ingest of the file's record batches into a bare table that it makes: no id, no checks, no index."""

    server: Server
    releases: Releases
    name: str = "adbc"

    def reset(self) -> None:
        self.server.fresh_schema(_ADBC_SCHEMA)

    def load(self, month: datetime.date) -> float:
        self.reset()
        self.server.settle()
        file = self.releases.file(month)
        took = run([sys.executable, "-m", "benchmarks.parquet", file, self.server.dsn, _ADBC_SCHEMA]).seconds
        rows = self.server.execute(f"SELECT count(*) FROM {_ADBC_SCHEMA}.trips")[0][0]
        if rows != self.releases.rows:
            raise BenchmarkError(f"ADBC loaded {rows} rows of {self.releases.rows}")
        return took


def measure_parquet(server: Server, options: Options) -> Iterator[Section]:
    """Round robin over the months, the first contestant changing, as for `load`."""
    csv = releases("green", options.rows, options.months, options.cache)
    parquet = releases("green", options.rows, options.months, options.cache, TLC)
    contestants: list[Contestant] = [
        Floor(server, csv),
        Pipeline(server, csv, "bench_csv", "csv"),
        Pipeline(server, parquet, "bench_parquet", "parquet"),
    ]
    if importlib.util.find_spec("adbc_driver_postgresql"):
        contestants.append(Adbc(server, parquet))
    else:
        tell("adbc-driver-postgresql is not installed: no ADBC")
    used: dict[str, list[float]] = {each.name: [] for each in contestants}
    taken: dict[str, list[float]] = {each.name: [] for each in contestants}
    for turn in range(options.rounds):
        for each in contestants:
            each.reset()
        for at, month in enumerate(csv.months):
            first = (turn + at) % len(contestants)
            for each in contestants[first:] + contestants[:first]:
                before = _processor_seconds(server)
                taken[each.name].append(each.load(month))
                used[each.name].append(_processor_seconds(server) - before)
            tell(f"parquet: {month:%Y-%m}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in used.items()))
    for each in contestants:
        each.reset()
    yield _section(used, taken, options)


def _section(used: dict[str, list[float]], taken: dict[str, list[float]], options: Options) -> Section:
    section = Section(
        f"Parquet: one month of {options.rows:,} green rows, processor time of client and server",
        ("contestant", "CPU s", "ratio to floor", "lowest … highest", "ratio to csv", "seconds"),
        notes=["csv and parquet are the pipeline, process start to exit; adbc makes a bare table without ids."],
    )
    for name, values in used.items():
        section.samples[f"{name} (CPU s)"], section.samples[name] = values, taken[name]
        to_floor, to_csv = ratios(values, used["floor"]), ratios(values, used["csv"])
        cells = (seconds(median(values)), ratio(median(to_floor)), ratio_range(to_floor), ratio(median(to_csv)))
        section.add(name, *cells, seconds(median(taken[name])))
    return section


def _processor_seconds(server: Server) -> float:
    """Of the server's processes, and of the commands that have ended here."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + server.cpu_seconds()


def main() -> None:
    """Loads a file with ADBC."""
    import pyarrow.parquet as pq
    from adbc_driver_postgresql import dbapi  # for whom has installed it

    file, dsn, schema = sys.argv[1:]
    with pq.ParquetFile(Path(file)) as parquet, dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("trips", parquet.iter_batches(), mode="create", db_schema_name=schema)
        connection.commit()


if __name__ == "__main__":
    main()
