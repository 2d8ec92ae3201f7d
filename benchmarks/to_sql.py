"""pandas `to_sql`, by which most tutorials load a CSV file. It is slow, so it loads a part, scaled to a month.

`python -m benchmarks.to_sql FILE DSN SCHEMA TAXI ROWS` loads the part and prints its seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.data import releases
from benchmarks.loaders import Floor
from benchmarks.options import Options
from benchmarks.process import BenchmarkError, run
from benchmarks.report import Section, log, median, ratio, rows_per_second, seconds
from benchmarks.server import Server

_SCHEMA = "bench_to_sql"
_MOST_ROWS = 100_000
_CHUNK_ROWS = 10_000


def measure_to_sql(server: Server, options: Options) -> Iterator[Section]:
    """Measures read_csv and to_sql(chunksize, default method) into a new table, between two loads of the floor."""
    month = releases("green", options.rows, 1, options.cache)
    rows = min(options.rows, _MOST_ROWS)
    floor = Floor(server, month)
    floors = [floor.load(month.months[0])]
    server.recreate_schema(_SCHEMA)
    server.wait_until_idle()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "benchmarks.to_sql",
        month.file(month.months[0]),
        server.dsn,
        _SCHEMA,
    ]
    measurement = run([*command, "green", str(rows)])
    if (loaded := server.execute(f"SELECT count(*) FROM {_SCHEMA}.trips")[0][0]) != rows:
        raise BenchmarkError(f"to_sql loaded {loaded} rows of {rows}")
    server.recreate_schema(_SCHEMA)
    floors.append(floor.load(month.months[0]))
    whole = float(measurement.output.split()[-1]) * options.rows / rows
    log(f"to_sql: {whole:.1f} s a month")
    section = Section(
        "pandas to_sql",
        ("loader", "ratio to floor", "seconds", "rows/s"),
        notes=[
            f"One round. Measured on {rows:,} rows of the month's {options.rows:,} and scaled to all of them;"
            " the imports are not counted, and no id is computed."
        ],
        samples={"floor": floors, "to_sql": [whole]},
    )
    section.add("floor", "1.00", seconds(median(floors)), rows_per_second(options.rows, median(floors)))
    section.add("pandas to_sql", ratio(whole / median(floors)), seconds(whole), rows_per_second(options.rows, whole))
    yield section


def _load(file: str, dsn: str, schema: str, taxi: str, rows: int) -> float:
    # In a process of its own, because the memory that pandas needs would count in the peaks of later commands.
    import pandas  # type: ignore[import-untyped]
    import psycopg2
    import sqlalchemy

    from pipeline.datasets import dataset_named

    columns = dataset_named(taxi).columns
    times = [column.source_name for column in columns if column.postgres_type == "timestamp"]
    texts = {column.source_name: "string" for column in columns if column.postgres_type == "text"}
    engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(dsn))
    started = time.perf_counter()
    frame = pandas.read_csv(file, nrows=rows, parse_dates=times, dtype=texts)
    with engine.begin() as connection:
        frame.to_sql("trips", connection, schema=schema, index=False, if_exists="fail", chunksize=_CHUNK_ROWS)
    return time.perf_counter() - started


if __name__ == "__main__":
    _, file_, dsn_, schema_, taxi_, rows_ = sys.argv
    print(_load(file_, dsn_, schema_, taxi_, int(rows_)))
