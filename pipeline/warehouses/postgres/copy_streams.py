"""Stages a release file: streams its rows into a table by several COPYs at once, setting bad rows aside."""

from __future__ import annotations

import io
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.releases import Block, CsvRelease, Record, records
from pipeline.warehouses.postgres.bad_rows import MalformedRow, RowError, end_marker, find_bad_row
from pipeline.warehouses.postgres.connection import statement

_COPY_CHUNK_BYTES = 1 << 18


@dataclass
class Staged:
    """What came of staging a file."""

    rows_copied: int = 0
    malformed: list[MalformedRow] = field(default_factory=list)

    @property
    def rows_read(self) -> int:
        return self.rows_copied + len(self.malformed)


class _NotAllowed(Exception):
    def __init__(self, row: MalformedRow):
        super().__init__(row.detail)
        self.row = row


class Stager:
    """Copies the rows of one file into one table, a connection to a stream.

    Blocks are committed one by one, so the table must be one that nobody else sees. Rows arrive in no set order.
    """

    def __init__(self, release: CsvRelease, table: sql.Identifier, connections: list[Connection], max_bad_rows: int):
        self._release = release
        columns = sql.SQL(", ").join(map(sql.Identifier, release.columns))
        self._copy = statement("copy_rows", table=table, columns=columns)
        self._copy_plain = statement("copy_plain_rows", table=table, columns=columns)
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for connection in connections:
            self._idle.put(connection)
        self._streams = len(connections)
        self._max_bad_rows = max_bad_rows
        self._lock = threading.Lock()
        self._staged = Staged()

    def run(self, rows_expected: int | None, progress: Progress) -> Staged:
        """Returns when every row of the file is in the table or among the malformed ones.

        :raises PipelineError: naming file, line, column and value, when more than `max_bad_rows` rows are malformed.
        """
        pool = ThreadPoolExecutor(self._streams, thread_name_prefix="copy")
        try:
            for done in self._copied_blocks(pool):
                done.result()
                progress(self._staged.rows_copied, rows_expected)
        except _NotAllowed as error:
            raise self._explain(error.row) from error
        finally:
            pool.shutdown(cancel_futures=True)
        return self._staged

    def _copied_blocks(self, pool: ThreadPoolExecutor) -> Iterator[Future[None]]:
        # In file order, so that of several bad rows the first in the file is the one reported; and few at a time,
        # so that memory stays flat whatever the file.
        pending: deque[Future[None]] = deque()
        for block in self._release.blocks():
            if len(pending) >= 2 * self._streams:
                yield pending.popleft()
            pending.append(pool.submit(self._copy_block, block))
        yield from pending

    def _copy_block(self, block: Block) -> None:
        connection = self._idle.get()
        try:
            left = self._copy_part(connection, block.data, block.rows, lambda: list(records(block)))
            while left:
                part = left.pop()
                left += self._copy_part(connection, b"".join(row.data for row in part), len(part), part.copy)
        finally:
            self._idle.put(connection)

    def _copy_part(
        self, connection: Connection, data: bytes, count: int, split: Callable[[], list[Record]]
    ) -> list[list[Record]]:
        """Copies all rows, or sets the first bad one aside; returns what is then left to copy, the last part first."""
        try:
            copied = self._send(connection, data)
        except RowError as error:
            rows = split()
            at, bad = find_bad_row(rows, error)
            self._set_aside(bad)
            return [part for part in (rows[at + 1 :], rows[:at]) if part]
        with self._lock:
            self._staged.rows_copied += copied
        if copied == count:
            return []
        rows = split()
        if copied > count or not (marker := end_marker(rows[copied])):
            raise PipelineError(
                f"{self._release.label}: PostgreSQL took {copied:,} rows for the {count:,} from line"
                f" {rows[0].line_number:,} on; nothing was loaded"
            )
        self._set_aside(marker)
        return [rows[copied + 1 :]] if rows[copied + 1 :] else []

    def _send(self, connection: Connection, data: bytes) -> int:
        copy = self._copy if b'"' in data or b"\\" in data else self._copy_plain
        with connection.cursor() as cursor:
            cursor.copy_expert(copy, io.BytesIO(data), size=_COPY_CHUNK_BYTES)
            return int(cursor.rowcount)

    def _set_aside(self, row: MalformedRow) -> None:
        with self._lock:
            if row.is_open or len(self._staged.malformed) >= self._max_bad_rows:
                raise _NotAllowed(row)
            self._staged.malformed.append(row)

    def _explain(self, row: MalformedRow) -> PipelineError:
        allowed = f" (now {self._max_bad_rows})" if self._max_bad_rows else ""
        hint = f", or let some such rows be set aside: --LoadTripdata-max-bad-rows N{allowed}"
        if row.is_open or not self._release.dataset.is_monthly:
            hint = ""
        return PipelineError(
            f"{self._release.label}, line {row.line_number}, {row.detail}; nothing was loaded. Fix the file at its"
            f" source and run again with --force{hint}"
        )
