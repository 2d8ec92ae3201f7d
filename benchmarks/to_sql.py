"""pandas `to_sql`: the way that most tutorials load a CSV file. It is slow, so it loads a part, scaled to the whole.

`python -m benchmarks.to_sql FILE DSN SCHEMA TAXI ROWS` is the process that does it, and prints its seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contestants import Floor
from benchmarks.data import releases
from benchmarks.options import Options
from benchmarks.process import BenchmarkError, run
from benchmarks.report import Section, median, ratio, rows_per_second, seconds, tell
from benchmarks.server import Server

_SCHEMA = "bench_to_sql"
_LONGEST = 100_000
_CHUNK_ROWS = 10_000


def measure_to_sql(server: Server, options: Options) -> Iterator[Section]:
    """read_csv and to_sql(chunksize, default method) into a new table; the floor loads the month before and after."""
    month = releases("green", options.rows, 1, options.cache)
    rows = min(options.rows, _LONGEST)
    floor = Floor(server, month)
    floors = [floor.load(month.months[0])]
    server.fresh_schema(_SCHEMA)
    server.settle()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "benchmarks.to_sql",
        month.file(month.months[0]),
        server.dsn,
        _SCHEMA,
    ]
    measured = run([*command, "green", str(rows)])
    if (loaded := server.execute(f"SELECT count(*) FROM {_SCHEMA}.trips")[0][0]) != rows:
        raise BenchmarkError(f"to_sql loaded {loaded} rows of {rows}")
    server.fresh_schema(_SCHEMA)
    floors.append(floor.load(month.months[0]))
    whole = float(measured.output.split()[-1]) * options.rows / rows
    tell(f"to_sql: {whole:.1f} s a month")
    section = Section(
        "pandas to_sql",
        ("contestant", "ratio to floor", "seconds", "rows/s"),
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
    # In a process of its own: pandas is heavy, and a heavy parent would show in the memory of what it starts.
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
