"""Streams a release file's rows into a table with concurrent COPY commands and collects malformed rows."""

from __future__ import annotations

import contextlib
import io
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.releases import AnyReleaseFile
from pipeline.releases.csv_file import CsvReleaseFile
from pipeline.releases.csv_records import Block, CsvValues, InvalidRecord, Record, bad_row_error
from pipeline.warehouses.postgres.bad_rows import ROW_ERRORS, BadRows, find_bad_row
from pipeline.warehouses.postgres.connection import statement

if TYPE_CHECKING:
    import pyarrow as pa

_COPY_CHUNK_BYTES = 1 << 18


class RowCopier:
    """Copies the rows of one file into one table, with one COPY stream per connection.

    Each block is committed separately, so the table must not be visible to others. The order of rows is undefined.
    `bad_rows` collects malformed rows; `rows_copied` is the number of rows in the table.
    """

    def __init__(
        self,
        file: AnyReleaseFile,
        table: sql.Identifier,
        connections: list[Connection],
        bad_rows: BadRows,
    ):
        self._file = file
        columns = sql.SQL(", ").join(map(sql.Identifier, file.columns))
        self._copy = {
            name: statement(name, table=table, columns=columns)
            for name in ("copy_rows", "copy_plain_rows", "copy_binary_rows")
        }
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for connection in connections:
            self._idle.put(connection)
        self._streams = len(connections)
        self._lock = threading.Lock()
        self._first_error = threading.local()
        self.bad_rows = bad_rows
        self.rows_copied = 0

    @property
    def rows_read(self) -> int:
        return self.rows_copied + self.bad_rows.count

    def run(self, rows_expected: int | None, progress: Progress) -> None:
        """Copies every row of the file into the table or collects it as malformed.

        :raises PipelineError: if more rows are malformed than allowed; the message has file, line, column and value.
        """
        pool = ThreadPoolExecutor(self._streams, thread_name_prefix="copy")
        original_hook, sys.excepthook = sys.excepthook, self._record_first_error
        try:
            for done in self._copied_blocks(pool):
                done.result()
                progress(self.rows_read, rows_expected)
        finally:
            pool.shutdown(cancel_futures=True)
            sys.excepthook = original_hook

    def _copied_blocks(self, pool: ThreadPoolExecutor) -> Iterator[Future[None]]:
        copy: Callable[[Connection, Any], None]
        blocks: Iterable[Any]
        if isinstance(self._file, CsvReleaseFile):
            self._values = CsvValues(self._file.dataset, self._file.columns)
            copy, blocks = self._copy_block, self._file.blocks()
        else:
            copy, blocks = self._copy_batch, self._file.arrow_batches()
        # Results are awaited in file order, so that the first bad row in the file is the one reported. Few blocks are
        # pending at a time, so that memory does not grow with the file.
        pending: deque[Future[None]] = deque()
        for block in blocks:
            if len(pending) >= 2 * self._streams:
                yield pending.popleft()
            pending.append(pool.submit(self._run_on_idle, copy, block))
        yield from pending

    def _run_on_idle(self, copy: Callable[[Connection, Any], None], block: Any) -> None:
        connection = self._idle.get()
        try:
            copy(connection, block)
        finally:
            self._idle.put(connection)

    def _copy_batch(self, connection: Connection, batch: pa.RecordBatch) -> None:
        self._send(connection, "copy_binary_rows", _binary_rows(batch), batch.num_rows)

    def _copy_block(self, connection: Connection, block: Block) -> None:
        if self._values.match_plain_shape(block.data):
            with contextlib.suppress(*ROW_ERRORS):  # an invalid date, for example; nothing of the block was copied
                self._send_csv(connection, block)
                return
        self._copy_checked(connection, block)

    def _copy_checked(self, connection: Connection, block: Block) -> None:
        """Checks a block's rows one by one, collects the malformed ones and copies the others."""
        good = list[Record]()
        try:
            good.extend(self._values.valid_records(block, self._add_bad_row))
        finally:
            # Also after an error: a row before the reported one may be one that only PostgreSQL rejects.
            self._copy_records(connection, _with_equal_ends(good))

    def _copy_records(self, connection: Connection, rows: list[Record]) -> None:
        """Copies the rows and collects those that PostgreSQL rejects, of which COPY reports the first."""
        while rows:
            try:
                self._send_csv(connection, Block(b"".join(row.data for row in rows), rows[0].line_number, len(rows)))
                return
            except ROW_ERRORS as error:
                index, invalid = find_bad_row(rows, error)
                self._add_bad_row(rows[index], invalid)
                self._copy_records(connection, rows[:index])
                rows = rows[index + 1 :]

    def _send_csv(self, connection: Connection, block: Block) -> None:
        copy = "copy_rows" if b'"' in block.data or b"\\" in block.data else "copy_plain_rows"
        self._send(connection, copy, block.data, block.rows, f" from line {block.first_line:,} on")

    def _send(self, connection: Connection, copy: str, data: bytes, rows: int, place: str = "") -> None:
        try:
            with connection.cursor() as cursor:
                cursor.copy_expert(self._copy[copy], io.BytesIO(data), size=_COPY_CHUNK_BYTES)
                copied = int(cursor.rowcount)
        except psycopg2.OperationalError as error:
            raise getattr(self._first_error, "error", error) from error
        if copied != rows:
            raise PipelineError(
                f"{self._file.label}: PostgreSQL copied {copied:,} of {rows:,} rows{place}; nothing was loaded"
            )
        with self._lock:
            self.rows_copied += copied

    def _record_first_error(self, kind: type[BaseException], error: BaseException, *trace: Any) -> None:
        """Replaces `sys.excepthook`, through which psycopg2 prints a SystemError if the server aborts a COPY.

        psycopg2 then raises a second error, "invalid socket". The cause of the SystemError is the first one, which has
        the reason. Both occur in the thread of the COPY.
        """
        if isinstance(error, SystemError) and isinstance(error.__cause__, psycopg2.Error):
            self._first_error.error = error.__cause__
        else:
            sys.__excepthook__(kind, error, *trace)

    def _add_bad_row(self, row: Record, invalid: InvalidRecord, remaining: Iterable[Record] = ()) -> None:
        """Collects the row.

        :raises PipelineError: if more rows are malformed than allowed.
        """
        with self._lock:
            if self.bad_rows.add(row, invalid):
                return
        alternative = ""
        if self._file.dataset.is_monthly:
            allowed = f" (now {self.bad_rows.allowed})" if self.bad_rows.allowed else ""
            alternative = (
                f", or set such rows aside with --LoadTripdata-max-bad-rows N{allowed}, or --max-bad-rows N of"
                " `pipeline load`"
            )
        detail = invalid.detail + self._values.describe_further_invalid(remaining)
        raise bad_row_error(self._file.label, row.line_number, detail, "loaded", alternative)


def _with_equal_ends(rows: list[Record]) -> list[Record]:
    """Returns the rows with LF at the end if some end with CRLF: COPY takes the end of its first line for all."""
    if len({row.data.endswith(b"\r\n") for row in rows}) < 2:
        return rows
    return [replace(row, data=row.data.removesuffix(b"\n").removesuffix(b"\r") + b"\n") for row in rows]


def _binary_rows(batch: pa.RecordBatch) -> bytes:
    """Returns the rows as binary COPY data: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"."""
    import pgpq  # like pyarrow, imported only to load a Parquet file

    encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
    return b"".join((encoder.write_header(), encoder.write_batch(batch), encoder.finish()))
