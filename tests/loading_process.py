"""Separate processes that load January's file, for tests that kill them.

A process that loads into PostgreSQL can be stopped in mid-load. It imports little, so that the time in which it is
killed is spent on the load. Processes that load into Google Cloud are forked from one that has imported Google's
libraries, which takes a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets import Release, dataset_named, parse_month
from pipeline.extract import ExtractedFile
from pipeline.progress import silent
from pipeline.releases import csv_file
from pipeline.warehouses import LoadJob
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

if TYPE_CHECKING:
    from gcp import GoogleCloud

CHECKOUT = Path(__file__).parents[1]


def start(database: PostgresDatabase, lines: list[bytes], folder: Path, *options: str) -> subprocess.Popen[str]:
    """Starts a process that loads these lines.

    With the option "hold", it waits for a line on its standard input while it stages rows and again when it has loaded
    them; with "replace", it replaces what is loaded. The application_name of its sessions is the schema.
    """
    from trips import write_load_job  # not at the top: it imports conftest, which the process that loads does not need

    dsn = f"{database.dsn}&application_name={database.schema}"
    file = str(write_load_job(lines, folder).file)
    return subprocess.Popen(
        [sys.executable, __file__, dsn, database.schema, file, *options],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def load_into_postgres(dsn: str, schema: str, file: str, *options: str) -> None:
    csv_file.BLOCK_BYTES = 20_000
    green, path, replace = dataset_named("green"), Path(file), "replace" in options
    job = LoadJob(
        "LoadTripdata",
        Release(green, parse_month("2019-01")),
        "test",
        replace,
        path,
        ExtractedFile(source_url=path.as_uri()),
        max_bad_rows=1,
    )
    reports: list[int] = []

    def hold(done: int, total: int | None) -> None:
        if not reports:
            reports.append(done)
            print_and_wait("staging")

    def print_and_wait(word: str) -> None:
        print(word, flush=True)
        sys.stdin.readline()

    entry = load(PostgresDatabase(dsn, schema), job, hold if "hold" in options else silent)
    print(f"loaded {entry.rows_loaded}", flush=True)
    if "hold" in options:
        sys.stdin.readline()


class ProcessSource:
    """Starts processes that load or forget in Google Cloud, one at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._waiting = 0

    def start(self, action: str, cloud: GoogleCloud, file: Path = Path()) -> int:
        """Starts a process that waits for `go`; returns its id. The actions are "forget", and "load" with a file."""
        if self._waiting:  # left by a test that failed before it called `go`
            os.kill(self._waiting, signal.SIGKILL)
            self.go()
        self._waiting = self._ask(action, cloud.project.project, cloud.project.bucket, file)
        return self._waiting

    def go(self) -> int:
        """Lets the process do its work; returns its exit status, which is negative if it was killed."""
        self._waiting = 0
        return self._ask("go")

    def _ask(self, *words: object) -> int:
        assert self._process.stdin and self._process.stdout
        print(*words, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def process_source(environment: dict[str, str]) -> Iterator[ProcessSource]:
    """A source of processes until the block ends; their environment directs them to the emulators."""
    command: dict[str, Any] = {"args": [sys.executable, __file__], "cwd": CHECKOUT, "text": True}
    command |= {"env": os.environ | environment | {"NO_PROXY": "127.0.0.1"}}
    with subprocess.Popen(**command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield ProcessSource(process)
        finally:
            process.kill()


def fork_processes() -> None:
    import gcp_trips
    import google.cloud.bigquery
    import google.cloud.storage  # noqa: F401
    import pytest
    from gcp import GoogleCloud, shorten_waits

    from pipeline.warehouses.bigquery.client import GoogleProject

    shorten_waits(pytest.MonkeyPatch())
    lines = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  the forked processes read from it as well
    while line := lines.readline().decode():
        action, project, bucket, file = line.split()
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        print(os.getpid(), flush=True)
        lines.readline()
        cloud = GoogleCloud(None, GoogleProject(project, "US", bucket, "tlc", 0))
        if action == "forget":
            gcp_trips.forget_month(cloud)
        else:
            gcp_trips.load_lines(cloud, Path(file).read_bytes().splitlines(), Path(file).parent)
        os._exit(0)


if __name__ == "__main__":
    load_into_postgres(*sys.argv[1:]) if sys.argv[1:] else fork_processes()
