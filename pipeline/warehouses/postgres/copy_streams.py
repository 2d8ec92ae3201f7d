"""Stages a release file: streams its rows into a table by several COPYs at once, setting bad rows aside."""

from __future__ import annotations

import io
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.releases import Block, CsvRelease, Record, records
from pipeline.releases.csv_values import CsvValues, Problem
from pipeline.warehouses.postgres.connection import statement
from pipeline.warehouses.postgres.quarantine import (
    BadRows,
    MalformedRow,
    RowError,
    end_marker,
    find_bad_row,
    malformed_row,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.releases.parquet_file import ParquetRelease

_COPY_CHUNK_BYTES = 1 << 18


class _NotAllowed(Exception):
    def __init__(self, row: MalformedRow, more: str):
        super().__init__(row.detail)
        self.row, self.more = row, more


class Stager:
    """Copies the rows of one file into one table, a connection to a stream.

    Blocks are committed one by one, so the table must be one that nobody else sees. Rows arrive in no set order.
    `bad_rows` takes the malformed ones; `rows_copied` are in the table.
    """

    def __init__(
        self,
        release: CsvRelease | ParquetRelease,
        table: sql.Identifier,
        connections: list[Connection],
        bad_rows: BadRows,
    ):
        self._release = release
        columns = sql.SQL(", ").join(map(sql.Identifier, release.columns))
        self._copy = {
            name: statement(name, table=table, columns=columns)
            for name in ("copy_rows", "copy_plain_rows", "copy_binary_rows")
        }
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for connection in connections:
            self._idle.put(connection)
        self._streams = len(connections)
        self._lock = threading.Lock()
        self._first_reason = threading.local()
        self.bad_rows = bad_rows
        self.rows_copied = 0

    @property
    def rows_read(self) -> int:
        return self.rows_copied + self.bad_rows.count

    def run(self, rows_expected: int | None, progress: Progress) -> None:
        """Returns when every row of the file is in the table or among the malformed ones.

        :raises PipelineError: naming file, line, column and value, when more rows are malformed than are allowed.
        """
        pool = ThreadPoolExecutor(self._streams, thread_name_prefix="copy")
        printed, sys.excepthook = sys.excepthook, self._note_first_reason
        try:
            for done in self._copied_blocks(pool):
                done.result()
                progress(self.rows_read, rows_expected)
        except _NotAllowed as error:
            raise self._explain(error.row, error.more) from error
        finally:
            pool.shutdown(cancel_futures=True)
            sys.excepthook = printed

    def _copied_blocks(self, pool: ThreadPoolExecutor) -> Iterator[Future[None]]:
        # In file order, so that of several bad rows the first in the file is the one reported; and few at a time,
        # so that memory stays flat whatever the file.
        pending: deque[Future[None]] = deque()
        for copy, block in self._blocks():
            if len(pending) >= 2 * self._streams:
                yield pending.popleft()
            pending.append(pool.submit(copy, block))
        yield from pending

    def _blocks(self) -> Iterator[tuple[Callable[[Any], None], Any]]:
        """What there is to copy, each with what copies it."""
        if isinstance(self._release, CsvRelease):
            self._values = CsvValues(self._release.dataset, self._release.columns)
            yield from ((self._copy_block, block) for block in self._release.blocks())
        else:
            yield from ((self._copy_batch, batch) for batch in self._release.arrow_batches())

    def _copy_batch(self, batch: pa.RecordBatch) -> None:
        connection = self._idle.get()
        try:
            copied = self._send(connection, "copy_binary_rows", cast(BinaryIO, io.BufferedReader(_Encoded(batch))))
        finally:
            self._idle.put(connection)
        if copied != batch.num_rows:
            raise PipelineError(f"{self._release.label}: PostgreSQL took {copied:,} rows for {batch.num_rows:,}")
        with self._lock:
            self.rows_copied += copied

    def _copy_block(self, block: Block) -> None:
        connection = self._idle.get()
        try:
            if self._values.are_plain(block.data):
                try:
                    copied = self._send_csv(connection, block.data)
                except RowError:
                    pass  # an impossible date, say: nothing of the block is there
                else:
                    if copied == block.rows:
                        with self._lock:
                            self.rows_copied += copied
                        return
                    raise self._miscounted(block.first_line, copied, block.rows)
            self._copy_judged(connection, block)
        finally:
            self._idle.put(connection)

    def _copy_judged(self, connection: Connection, block: Block) -> None:
        """Copies a block of which some rows are not plain, after those that are bad have been set aside."""
        good = list[Record]()
        try:
            following = records(block)
            for record in following:
                verdict = self._values.judge(record)
                if isinstance(verdict, Problem):
                    self._set_aside(malformed_row(record, verdict.column, verdict.message, verdict.value), following)
                else:
                    good.append(verdict)
        finally:
            # Of what PostgreSQL alone finds fault with, too, the first in the file is to be the one reported.
            left = [good] if good else []
            while left:
                left += self._copy_part(connection, left.pop())

    def _copy_part(self, connection: Connection, rows: list[Record]) -> list[list[Record]]:
        """Copies all rows, or sets the first bad one aside; returns what is then left to copy, the last part first."""
        try:
            copied = self._send_csv(connection, b"".join(row.data for row in rows))
        except RowError as error:
            at, bad = find_bad_row(rows, error)
            self._set_aside(bad)
            return [part for part in (rows[at + 1 :], rows[:at]) if part]
        with self._lock:
            self.rows_copied += copied
        if copied == len(rows):
            return []
        if copied > len(rows) or not (marker := end_marker(rows[copied])):
            raise self._miscounted(rows[0].line_number, copied, len(rows))
        self._set_aside(marker)
        return [rows[copied + 1 :]] if rows[copied + 1 :] else []

    def _send_csv(self, connection: Connection, data: bytes) -> int:
        copy = "copy_rows" if b'"' in data or b"\\" in data else "copy_plain_rows"
        return self._send(connection, copy, io.BytesIO(data))

    def _send(self, connection: Connection, copy: str, data: BinaryIO) -> int:
        try:
            with connection.cursor() as cursor:
                cursor.copy_expert(self._copy[copy], data, size=_COPY_CHUNK_BYTES)
                return int(cursor.rowcount)
        except psycopg2.OperationalError as error:
            raise getattr(self._first_reason, "error", error) from error

    def _note_first_reason(self, kind: type[BaseException], error: BaseException, *trace: Any) -> None:
        """Stands in for `sys.excepthook`, by which psycopg2 prints a SystemError when a server breaks a COPY off.

        It then raises the second of two errors, "invalid socket"; the cause of what it prints is the first, which says
        why. Both happen in the thread of the COPY.
        """
        if isinstance(error, SystemError) and isinstance(error.__cause__, psycopg2.Error):
            self._first_reason.error = error.__cause__
        else:
            sys.__excepthook__(kind, error, *trace)

    def _set_aside(self, row: MalformedRow, following: Iterable[Record] = ()) -> None:
        with self._lock:
            is_kept = not row.is_open and self.bad_rows.add(row)
        if not is_kept:
            raise _NotAllowed(row, "" if row.is_open else self._values.more_problems(following))

    def _miscounted(self, line: int, copied: int, rows: int) -> PipelineError:
        return PipelineError(
            f"{self._release.label}: PostgreSQL took {copied:,} rows for the {rows:,} from line {line:,} on; nothing"
            " was loaded"
        )

    def _explain(self, row: MalformedRow, more: str) -> PipelineError:
        allowed = f" (now {self.bad_rows.allowed})" if self.bad_rows.allowed else ""
        hint = f", or let some such rows be set aside: --LoadTripdata-max-bad-rows N{allowed}"
        if row.is_open or not self._release.dataset.is_monthly:
            hint = ""
        return PipelineError(
            f"{self._release.label}, line {row.line_number}, {row.detail}{more}; nothing was loaded. Fix the file at"
            f" its source and run again with --force{hint}"
        )


class _Encoded(io.RawIOBase):
    """The rows of an Arrow batch as binary COPY data, encoded piece by piece as they are read.

    https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
    """

    def __init__(self, batch: pa.RecordBatch):
        self._pieces = self._encode(batch)
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)  # empty while the encoder keeps a short batch to itself: not the end
        size = min(len(buffer), len(self._piece))
        buffer[:size], self._piece = self._piece[:size], self._piece[size:]
        return size

    @staticmethod
    def _encode(batch: pa.RecordBatch) -> Iterator[bytes]:
        import pgpq  # with pyarrow, for whom there is a Parquet file to load

        encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
        yield encoder.write_header()
        yield encoder.write_batch(batch)
        yield encoder.finish()
