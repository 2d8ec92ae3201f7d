"""The environment of a trial: generated months on a mirror, a storage root with its own PostgreSQL, and commands."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
from gcp import Emulators, GoogleCloud

from faults.commands import Command, Outcome
from pipeline.datasets import Release, dataset_named
from pipeline.sample import write_month
from pipeline.warehouses.postgres.embedded import ensure_running

MONTHS = tuple(datetime.date(2019, month, 1) for month in range(1, 5))
GREEN = dataset_named("green")


@dataclass
class World:
    """A storage root and a mirror; `rows` is the number of different rows in the mirror's edition of each month.

    `cloud` is the Google Cloud project of a trial, or None in a trial with PostgreSQL.
    """

    folder: Path
    emulators: Emulators
    chance: random.Random = field(default_factory=random.Random)
    rows: dict[datetime.date, int] = field(default_factory=dict)
    base_url: str = ""
    cloud: GoogleCloud | None = None

    def begin(self, seed: int) -> None:
        """Removes everything that is loaded or published, so that a trial depends only on its seed."""
        self.chance = random.Random(seed)
        self.rows.clear()
        self.cloud = None
        self.emulators.wire.incidents.clear()
        self.emulators.wire.requests.clear()
        for folder in (self.mirror, self.root / "raw", self.root / "dbt"):
            shutil.rmtree(folder, ignore_errors=True)
        with self.connection() as connection, connection, connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror"

    @property
    def root(self) -> Path:
        return self.folder / "data"

    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE__", "PYTHONPATH"))},
            "PIPELINE__STORAGE__ROOT": str(self.root),
            "PIPELINE__SOURCE__BASE_URL": self.base_url or str(self.mirror),
            "PIPELINE__SOURCE__RETRIES": "2",
            "PIPELINE__SOURCE__LONGEST_WAIT": "0.05",
            "PIPELINE__SOURCE__READ_TIMEOUT": "2",
            "PIPELINE__POSTGRES__IDLE_MINUTES": "0",
            "PIPELINE__SCHEDULE__TASK": "TripdataPipeline",
            "PIPELINE__SCHEDULE__PARAMETERS": '{"warehouse": "postgres"}',
            "PIPELINE__SCHEDULE__RELOAD": "always",
            "NO_PROXY": "127.0.0.1",
            **(self.cloud.environment if self.cloud else {}),
        }

    def release(self, month: datetime.date) -> Release:
        return Release(GREEN, month)

    def publish(self, month: datetime.date, rows: int, repeated: int = 0) -> None:
        """Publishes an edition with `rows` different rows on the mirror, and the last of them `repeated` more times."""
        self.rows[month] = rows
        write_month(GREEN, month, rows, self.mirror)
        if repeated:
            text = self.text_of(month)
            self.put(month, gzip.compress(text + repeated * text.splitlines(keepends=True)[-1], 1))

    def text_of(self, month: datetime.date) -> bytes:
        """The CSV file of a month on the mirror, decompressed."""
        release = self.release(month)
        return gzip.decompress((self.mirror / release.path_in(release.source_named("mirror"))).read_bytes())

    def put(self, month: datetime.date, content: bytes) -> None:
        """Publishes these bytes as the file of a month on the mirror."""
        release = self.release(month)
        (self.mirror / release.path_in(release.source_named("mirror"))).write_bytes(content)

    def start(self, *arguments: str) -> Command:
        """Starts `luigi` or `pipeline`."""
        return Command(*arguments, environment=self.environment(), folder=self.folder)

    def run(self, *arguments: str) -> Outcome:
        """Runs a command to its end."""
        return self.start(*arguments).outcome()

    def load(self, month: datetime.date, *options: str) -> tuple[str, ...]:
        """The command that loads a month: into BigQuery if the trial has a project there, else into PostgreSQL."""
        return self.task("LoadTripdataToBigQuery" if self.cloud else "LoadTripdata", month, *options)

    def task(self, name: str, month: datetime.date, *options: str) -> tuple[str, ...]:
        """The command that runs a task for a month."""
        return ("luigi", "--module", "pipeline", name, "--taxi", "green", "--month", f"{month:%Y-%m}", *options)

    def forget(self, month: datetime.date) -> tuple[str, ...]:
        """The command that removes a month."""
        return ("pipeline", "forget", "--taxi", "green", "--month", f"{month:%Y-%m}")

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg2.extensions.connection]:
        """A connection to the server, with several attempts, as it may just have been killed."""
        for pause in (0.2, 0.5, 1, 2, 4, None):
            try:
                connection = psycopg2.connect(ensure_running(self.root / "postgres"))
                break
            except psycopg2.OperationalError:
                if pause is None:
                    raise
                time.sleep(pause)
        with contextlib.closing(connection):
            yield connection

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """The rows of a query."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
