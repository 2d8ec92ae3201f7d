"""Ways to load a month whose times are compared. Each loads one month and returns its seconds."""

from __future__ import annotations

import datetime
import json
import shutil
from dataclasses import dataclass, field

from benchmarks.data import Releases
from benchmarks.process import BenchmarkError, Measurement, installed_command, run, run_pipe
from benchmarks.server import Server
from pipeline.datasets import Column, Release

SET_BY_BENCHMARKS = (
    "PIPELINE__STORAGE__ROOT",
    "PIPELINE__POSTGRES__DSN",
    "PIPELINE__POSTGRES__SCHEMA",
    "PIPELINE__SOURCE__BASE_URL",
)


class Loader:
    """Loads months one after the other, in any order. Preparations are not part of the measured time."""

    name: str

    def reset(self) -> None:
        """Removes all loaded months."""

    def load(self, month: datetime.date) -> float:
        """Loads one month and returns the seconds that it took."""
        raise NotImplementedError

    def rows_loaded(self) -> int:
        """Returns the number of rows loaded, which is checked after the measurement."""
        raise NotImplementedError


@dataclass
class Floor(Loader):
    """`gunzip -c file | psql -c '\\copy …'` into a plain typed table: without id, checks, second table or index."""

    server: Server
    releases: Releases
    name: str = "floor"

    def load(self, month: datetime.date) -> float:
        self.server.recreate_schema("bench_floor")
        self.server.execute(f"CREATE TABLE bench_floor.trips ({typed_columns(self.releases)})")
        self.server.wait_until_idle()
        seconds = run_pipe(
            ["gunzip", "-c", self.releases.file(month)],
            self.server.psql(r"\copy bench_floor.trips from stdin csv header"),
        )
        rows = self.server.execute("SELECT count(*) FROM bench_floor.trips")[0][0]
        if rows != self.releases.rows:
            raise BenchmarkError(f"the floor loaded {rows} rows of {self.releases.rows}")
        self.server.recreate_schema("bench_floor")
        return seconds


@dataclass
class Pipeline(Loader):
    """`luigi --module pipeline LoadTripdata …` as a user runs it, from process start to exit, with the extract."""

    server: Server
    releases: Releases
    schema: str = "bench_pipeline"
    name: str = "pipeline"
    peaks: list[int] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        values = (str(self.server.folder), self.server.dsn, self.schema, str(self.releases.mirror))
        return dict(zip(SET_BY_BENCHMARKS, values, strict=True))

    def reset(self) -> None:
        self.server.recreate_schema(self.schema)

    def load(self, month: datetime.date) -> float:
        self.remove_raw_files()
        self.server.wait_until_idle()
        measurement = run(self.command(month), self.environment)
        self.peaks.append(measurement.peak_bytes)
        return measurement.seconds

    def command(self, month: datetime.date) -> list[str]:
        luigi = [str(installed_command("luigi")), "--module", "pipeline", "LoadTripdata"]
        return [*luigi, "--taxi", self.releases.dataset.name, "--month", f"{month:%Y-%m}"]

    def backfill(self, workers: int, task: str = "LoadTripdata", **parameters: str) -> Measurement:
        """Runs a task for every month by one command, whose workers take one month at a time each."""
        self.remove_raw_files()
        self.server.wait_until_idle()
        return run(self.backfill_command(workers, task, **parameters), self.environment)

    def backfill_command(self, workers: int, task: str = "LoadTripdata", **parameters: str) -> list[str]:
        months = ["--start", self.releases.start, "--stop", self.releases.stop, "--workers", str(workers)]
        of = ["--of", task, "--of-params", json.dumps({"taxi": self.releases.dataset.name, **parameters})]
        return [str(installed_command("luigi")), "--module", "pipeline", "RangeMonthly", *of, *months]

    def remove_raw_files(self) -> None:
        """Removes the extracted files, so that the next run extracts and verifies them again."""
        shutil.rmtree(self.server.folder / "raw", ignore_errors=True)

    def rows_loaded(self) -> int:
        # Counted in the tables, because the ledger would only confirm itself; rows in the quarantine count as well.
        table = f"{self.schema}.{self.releases.dataset.table}"
        counts = f"SELECT (SELECT count(*) FROM {table}) + (SELECT count(*) FROM {self.schema}.load_quarantine)"
        return int(self.server.execute(counts)[0][0])


def typed_columns(releases: Releases) -> str:
    """Returns the file's columns as SQL, with the names and types that the pipeline gives them."""
    return ", ".join(f"{column.name} {column.postgres_type}" for column in _columns(releases))


def column_names(releases: Releases) -> list[str]:
    """Returns the names of the file's columns, in the order of the file."""
    return [column.name for column in _columns(releases)]


def _columns(releases: Releases) -> tuple[Column, ...]:
    release = Release(releases.dataset, releases.months[0])
    return releases.dataset.columns_of(release.month, release.source_named(releases.source))
