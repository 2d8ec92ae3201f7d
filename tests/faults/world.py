"""What a trial works on: a release site of made-up months, a storage root with its own PostgreSQL, and the commands."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from pipeline.datasets import Release, dataset_named
from pipeline.sample import write_month
from pipeline.warehouses.postgres.embedded import ensure_running

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).parents[2]
MONTHS = tuple(datetime.date(2019, month, 1) for month in range(1, 5))
GREEN = dataset_named("green")
TIMEOUT = 180.0  # seconds after which a command counts as hanging


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    output: str

    @property
    def is_explained(self) -> bool:
        """Whether there is no traceback in what it said."""
        return "Traceback (most recent call last)" not in self.output


@dataclass
class World:
    """A storage root and a mirror; `rows` are those that the mirror's edition of each month has."""

    folder: Path
    chance: random.Random
    rows: dict[datetime.date, int] = field(default_factory=dict)
    base_url: str = ""

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror"

    @property
    def root(self) -> Path:
        return self.folder / "data"

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE__")},
            "PIPELINE__STORAGE__ROOT": str(self.root),
            "PIPELINE__SOURCE__BASE_URL": self.base_url or str(self.mirror),
            "PIPELINE__SOURCE__RETRIES": "2",
            "PIPELINE__SOURCE__LONGEST_WAIT": "0.05",
            "PIPELINE__SOURCE__READ_TIMEOUT": "2",
            "PIPELINE__POSTGRES__IDLE_MINUTES": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def release(self, month: datetime.date) -> Release:
        return Release(GREEN, month)

    def publish(self, month: datetime.date, rows: int) -> Path:
        """Puts an edition of so many rows on the mirror."""
        self.rows[month] = rows
        return write_month(GREEN, month, rows, self.mirror)

    def text_of(self, month: datetime.date) -> bytes:
        """The CSV that the mirror has of a month."""
        release = self.release(month)
        return gzip.decompress((self.mirror / release.path_in(release.source_named("mirror"))).read_bytes())

    def put(self, month: datetime.date, content: bytes) -> None:
        """Puts these bytes on the mirror as a month's file."""
        release = self.release(month)
        (self.mirror / release.path_in(release.source_named("mirror"))).write_bytes(content)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts `luigi` or `pipeline`, in a process group of its own."""
        return subprocess.Popen(
            [BIN / arguments[0], *arguments[1:]],
            cwd=CHECKOUT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> Outcome:
        """Runs a command to its end."""
        return self.finish(self.start(*arguments))

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        """What a started command did, once it has ended.

        :raises AssertionError: when it hangs.
        """
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"hangs: {process.args}") from None
        return Outcome(process.returncode, output)

    def load(self, month: datetime.date, *options: str) -> tuple[str, ...]:
        """The command that loads a month."""
        return (
            "luigi",
            "--module",
            "pipeline",
            "LoadTripdata",
            "--taxi",
            "green",
            "--month",
            f"{month:%Y-%m}",
            *options,
        )

    def forget(self, month: datetime.date) -> tuple[str, ...]:
        """The command that removes a month."""
        return ("pipeline", "forget", "--taxi", "green", "--month", f"{month:%Y-%m}")

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg2.extensions.connection]:
        """A connection to the server, which may have been killed a moment ago."""
        for patience in (0.2, 0.5, 1, 2, 4, None):
            try:
                connection = psycopg2.connect(ensure_running(self.root / "postgres"))
                break
            except psycopg2.OperationalError:
                if patience is None:
                    raise
                time.sleep(patience)
        with contextlib.closing(connection):
            yield connection

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """A query's rows."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
