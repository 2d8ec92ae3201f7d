"""A process of its own that loads January's file; a test may hold it while it is staging, and may kill it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import CHECKOUT, JANUARY
from trips import job_of

from pipeline.datasets import Release, dataset_named
from pipeline.progress import silent
from pipeline.releases import csv_file
from pipeline.warehouses import LoadJob
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load


def start(database: PostgresDatabase, lines: list[bytes], folder: Path, *options: str) -> subprocess.Popen[str]:
    """Starts loading these rows; options are "hold" (while staging and again when done) and "replace".

    Its sessions are called like the schema.
    """
    dsn = f"{database.dsn}&application_name={database.schema}"
    file = str(job_of(lines, folder).file)
    return subprocess.Popen(
        [sys.executable, __file__, dsn, database.schema, file, *options],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main(dsn: str, schema: str, file: str, *options: str) -> None:
    csv_file.BLOCK_BYTES = 20_000
    green, path, replace = dataset_named("green"), Path(file), "replace" in options
    job = LoadJob(
        "LoadTripdata",
        Release(green, JANUARY),
        "test",
        replace,
        path,
        path.as_uri(),
        max_bad_rows=1,
    )
    held: list[int] = []

    def hold(done: int, total: int | None) -> None:
        if not held:
            held.append(done)
            say_and_wait("staging")

    def say_and_wait(word: str) -> None:
        print(word, flush=True)
        sys.stdin.readline()

    entry = load(PostgresDatabase(dsn, schema), job, hold if "hold" in options else silent)
    print(f"loaded {entry.rows_loaded}", flush=True)
    if "hold" in options:
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
