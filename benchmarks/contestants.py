"""The contestants of a load: the floor, the pipeline, and the older flow. Each loads one month and says how long."""

from __future__ import annotations

import datetime
import json
import shutil
from dataclasses import dataclass, field

from benchmarks.data import Releases
from benchmarks.process import BenchmarkError, Measured, installed, run, run_piped
from benchmarks.server import Server
from pipeline.datasets import Column, Release

OVERRIDDEN = (
    "PIPELINE__STORAGE__ROOT",
    "PIPELINE__POSTGRES__DSN",
    "PIPELINE__POSTGRES__SCHEMA",
    "PIPELINE__SOURCE__BASE_URL",
)


class Contestant:
    """Loads months one after the other, in any order; what it needs beforehand is made outside the time measured."""

    name: str

    def reset(self) -> None:
        """Starts over with no months loaded."""

    def load(self, month: datetime.date) -> float:
        """The seconds that it takes to load one month."""
        raise NotImplementedError

    def rows_loaded(self) -> int:
        """How many rows the contestant has loaded, for checking that it did."""
        raise NotImplementedError


@dataclass
class Floor(Contestant):
    """`gunzip -c file | psql -c '\\copy …'` into a plain typed table: no id, no checks, no second table, no index."""

    server: Server
    releases: Releases
    name: str = "floor"

    def load(self, month: datetime.date) -> float:
        self.server.fresh_schema("bench_floor")
        self.server.execute(f"CREATE TABLE bench_floor.trips ({typed_columns(self.releases)})")
        self.server.settle()
        seconds = run_piped(
            ["gunzip", "-c", self.releases.file(month)],
            self.server.psql(r"\copy bench_floor.trips from stdin csv header"),
        )
        rows = self.server.execute("SELECT count(*) FROM bench_floor.trips")[0][0]
        if rows != self.releases.rows:
            raise BenchmarkError(f"the floor loaded {rows} rows of {self.releases.rows}")
        self.server.fresh_schema("bench_floor")
        return seconds


@dataclass
class Pipeline(Contestant):
    """`luigi --module pipeline LoadTripdata …` from process start to exit, the extract included, as a user runs it."""

    server: Server
    releases: Releases
    schema: str = "bench_pipeline"
    name: str = "pipeline"
    peaks: list[int] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        values = (str(self.server.folder), self.server.dsn, self.schema, str(self.releases.mirror))
        return dict(zip(OVERRIDDEN, values, strict=True))

    def reset(self) -> None:
        self.server.fresh_schema(self.schema)

    def load(self, month: datetime.date) -> float:
        self.empty_raw_folder()
        self.server.settle()
        measured = run(self.command(month), self.environment)
        self.peaks.append(measured.peak_bytes)
        return measured.seconds

    def command(self, month: datetime.date) -> list[str]:
        luigi = [str(installed("luigi")), "--module", "pipeline", "LoadTripdata"]
        return [*luigi, "--taxi", self.releases.spec.name, "--month", f"{month:%Y-%m}"]

    def backfill(self, workers: int, task: str = "LoadTripdata", **parameters: str) -> Measured:
        """Runs a task for every month by one command, of which each worker takes one month at a time."""
        self.empty_raw_folder()
        self.server.settle()
        return run(self.backfill_command(workers, task, **parameters), self.environment)

    def backfill_command(self, workers: int, task: str = "LoadTripdata", **parameters: str) -> list[str]:
        months = ["--start", self.releases.start, "--stop", self.releases.stop, "--workers", str(workers)]
        of = ["--of", task, "--of-params", json.dumps({"taxi": self.releases.spec.name, **parameters})]
        return [str(installed("luigi")), "--module", "pipeline", "RangeMonthly", *of, *months]

    def empty_raw_folder(self) -> None:
        """So that the file is extracted and verified anew."""
        shutil.rmtree(self.server.folder / "raw", ignore_errors=True)

    def rows_loaded(self) -> int:
        # Counted in the table and not in the ledger, which would believe itself; what is set aside counts as well.
        table = f"{self.schema}.{self.releases.spec.table}"
        counts = f"SELECT (SELECT count(*) FROM {table}) + (SELECT count(*) FROM {self.schema}.load_quarantine)"
        return int(self.server.execute(counts)[0][0])


def typed_columns(releases: Releases) -> str:
    """The file's columns as SQL, named and typed as the pipeline's."""
    return ", ".join(f"{column.name} {column.postgres_type}" for column in _columns(releases))


def column_names(releases: Releases) -> list[str]:
    """The names of the file's columns, in its order."""
    return [column.name for column in _columns(releases)]


def _columns(releases: Releases) -> tuple[Column, ...]:
    release = Release(releases.spec, releases.months[0])
    return releases.spec.columns_of(release.month, release.source_named(releases.source))
