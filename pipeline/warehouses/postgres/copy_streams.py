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
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.releases.csv_file import CsvReleaseFile
from pipeline.releases.csv_records import Block, CsvValues, InvalidRecord, Record, bad_row_error
from pipeline.warehouses.postgres.bad_rows import ROW_ERRORS, BadRows, find_bad_row, has_unclosed_quote, is_end_of_copy
from pipeline.warehouses.postgres.connection import statement

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.releases.parquet_file import ParquetReleaseFile

_COPY_CHUNK_BYTES = 1 << 18


class RowCopier:
    """Copies the rows of one file into one table, with one COPY stream per connection.

    Each block is committed separately, so the table must not be visible to others. The order of rows is undefined.
    `bad_rows` collects malformed rows; `rows_copied` is the number of rows in the table.
    """

    def __init__(
        self,
        file: CsvReleaseFile | ParquetReleaseFile,
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
        copied = self._send(connection, "copy_binary_rows", cast(BinaryIO, _BinaryRows(batch)))
        if copied != batch.num_rows:
            raise PipelineError(f"{self._file.label}: PostgreSQL took {copied:,} rows for {batch.num_rows:,}")

    def _copy_block(self, connection: Connection, block: Block) -> None:
        if self._values.match_plain_shape(block.data):
            with contextlib.suppress(*ROW_ERRORS):  # an invalid date, for example; nothing of the block was copied
                copied = self._send_csv(connection, block.data)
                if copied != block.rows:
                    raise self._row_count_error(block.first_line, copied, block.rows)
                return
        self._copy_checked(connection, block)

    def _copy_checked(self, connection: Connection, block: Block) -> None:
        """Checks a block's rows one by one, collects the malformed ones and copies the others."""
        good = list[Record]()
        try:
            good.extend(self._values.valid_records(block, self._add_bad_row))
        finally:
            # Also after an error: a row before the reported one may be one that only PostgreSQL rejects.
            remaining = [good] if good else []
            while remaining:
                remaining += self._copy_part(connection, remaining.pop())

    def _copy_part(self, connection: Connection, rows: list[Record]) -> list[list[Record]]:
        """Copies all rows, or collects the first bad one and returns the parts that remain, the last part first."""
        try:
            copied = self._send_csv(connection, b"".join(row.data for row in rows))
        except ROW_ERRORS as error:
            index, invalid = find_bad_row(rows, error)
            self._add_bad_row(rows[index], invalid)
            return [part for part in (rows[index + 1 :], rows[:index]) if part]
        if copied == len(rows):
            return []
        if copied > len(rows) or not is_end_of_copy(rows[copied]):
            raise self._row_count_error(rows[0].line_number, copied, len(rows))
        only = InvalidRecord("", "missing data for column: the line holds only", rows[copied].text)
        self._add_bad_row(rows[copied], only)
        return [rows[copied + 1 :]] if rows[copied + 1 :] else []

    def _send_csv(self, connection: Connection, data: bytes) -> int:
        copy = "copy_rows" if b'"' in data or b"\\" in data else "copy_plain_rows"
        return self._send(connection, copy, io.BytesIO(data))

    def _send(self, connection: Connection, copy: str, data: BinaryIO) -> int:
        try:
            with connection.cursor() as cursor:
                cursor.copy_expert(self._copy[copy], data, size=_COPY_CHUNK_BYTES)
                copied = int(cursor.rowcount)
        except psycopg2.OperationalError as error:
            raise getattr(self._first_error, "error", error) from error
        with self._lock:
            self.rows_copied += copied
        return copied

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

        :raises PipelineError: if more rows are malformed than allowed, or the row hides others.
        """
        hides_others = has_unclosed_quote(row)
        with self._lock:
            if not hides_others and self.bad_rows.add(row, invalid):
                return
        further = "" if hides_others else self._values.describe_further_invalid(remaining)
        allowed = f" (now {self.bad_rows.allowed})" if self.bad_rows.allowed else ""
        alternative = (
            f", or let some such rows be set aside: --LoadTripdata-max-bad-rows N{allowed}, or --max-bad-rows N of"
            " `pipeline load`"
        )
        if hides_others or not self._file.dataset.is_monthly:
            alternative = ""
        raise bad_row_error(self._file.label, row.line_number, invalid.detail + further, "loaded", alternative)

    def _row_count_error(self, line: int, copied: int, rows: int) -> PipelineError:
        return PipelineError(
            f"{self._file.label}: PostgreSQL took {copied:,} rows for the {rows:,} from line {line:,} on; nothing"
            " was loaded"
        )


class _BinaryRows:
    """The rows of an Arrow batch as a file of binary COPY data, of which psycopg2 reads chunk by chunk.

    https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
    """

    def __init__(self, batch: pa.RecordBatch):
        self._chunks = self._encode(batch)

    def read(self, _: int) -> bytes:
        return next(self._chunks, b"")

    @staticmethod
    def _encode(batch: pa.RecordBatch) -> Iterator[bytes]:
        import pgpq  # like pyarrow, imported only to load a Parquet file

        encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
        for piece in (encoder.write_header(), encoder.write_batch(batch), encoder.finish()):
            for start in range(0, len(piece), _COPY_CHUNK_BYTES):
                yield piece[start : start + _COPY_CHUNK_BYTES]
