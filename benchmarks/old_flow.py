r"""The older flow: the steps by which the course's Kestra flows load this data.

gunzip to a CSV file on disk; TRUNCATE the staging table; \copy into it; UPDATE every row with its id and file name;
MERGE into the one big table, which has no index. The statements run in a single psql, without the time
of an orchestrator, so the real flow takes longer.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass

from benchmarks.data import Releases
from benchmarks.loaders import Loader, column_names, typed_columns
from benchmarks.process import run
from benchmarks.server import Server
from pipeline.datasets import Release

_SCHEMA = "bench_old_flow"


@dataclass
class OldFlow(Loader):
    """Loads months by the older flow into one table, which grows month by month."""

    server: Server
    releases: Releases
    name: str = "older flow"

    def reset(self) -> None:
        self.server.recreate_schema(_SCHEMA)
        for table in ("staging", "trips"):
            columns = f"unique_row_id text, filename text, {typed_columns(self.releases)}"
            self.server.execute(f"CREATE TABLE {_SCHEMA}.{table} ({columns})")

    def load(self, month: datetime.date) -> float:
        csv = self.server.folder / Release(self.releases.dataset, month).filename
        self.server.wait_until_idle()
        started = time.perf_counter()
        run(["sh", "-c", 'gunzip -c "$1" > "$2"', "sh", self.releases.file(month), csv])
        run(self.server.psql(*self._statements(month, str(csv))))
        seconds = time.perf_counter() - started
        csv.unlink()
        return seconds

    def _statements(self, month: datetime.date, csv: str) -> list[str]:
        dataset = self.releases.dataset
        names = column_names(self.releases)
        file_columns = ", ".join(names)
        key = " || ".join(f"COALESCE(CAST({name} AS text), '')" for name in dataset.row_key)
        columns = ("unique_row_id", "filename", *names)
        return [
            f"TRUNCATE TABLE {_SCHEMA}.staging",
            f"\\copy {_SCHEMA}.staging ({file_columns}) from '{csv}' csv header",
            f"UPDATE {_SCHEMA}.staging SET unique_row_id = md5({key}), filename = '{Release(dataset, month).filename}'",
            f"MERGE INTO {_SCHEMA}.trips AS T USING {_SCHEMA}.staging AS S ON T.unique_row_id = S.unique_row_id"
            f" WHEN NOT MATCHED THEN INSERT ({', '.join(columns)})"
            f" VALUES ({', '.join(f'S.{column}' for column in columns)})",
        ]

    def rows_loaded(self) -> int:
        return int(self.server.execute(f"SELECT count(*) FROM {_SCHEMA}.trips")[0][0])
