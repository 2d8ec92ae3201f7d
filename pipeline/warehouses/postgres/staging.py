"""Stages a release file: streams its rows into a table by several COPYs at once, setting bad rows aside."""

from __future__ import annotations

import io
import queue
import re
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from pipeline.datasets.release_file import Block, Record, ReleaseFile, records
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.warehouses.postgres.statements import statement

_COPY_CHUNK_BYTES = 1 << 18
# COPY's context reads «COPY table, line 3, column fare_amount: "abc"», the words in the server's language.
_COPY_PLACE = re.compile(r"\S+ .*?, \D*(?P<line>\d+)(?:, \S+ (?P<column>\w+))?(?:: (?P<value>.*))?", re.DOTALL)
_LONGEST_VALUE = 200


@dataclass(frozen=True)
class MalformedRow:
    """A row that PostgreSQL does not take: where it stands, what it says and what is wrong with it."""

    line_number: int
    line: str
    detail: str


@dataclass
class Staged:
    """What came of staging a file: `rows_read = rows_copied + len(malformed)`."""

    rows_read: int = 0
    rows_copied: int = 0
    malformed: list[MalformedRow] = field(default_factory=list)


class _TooManyBadRows(Exception):
    def __init__(self, row: MalformedRow):
        super().__init__(row.detail)
        self.row = row


class Stager:
    """Copies the rows of one file into one table, a connection to a stream.

    Blocks are committed one by one, so the table must be one that nobody else sees. Rows arrive in no set order.
    """

    def __init__(self, release: ReleaseFile, table: sql.Identifier, connections: list[Connection], max_bad_rows: int):
        self._release = release
        columns = sql.SQL(", ").join(map(sql.Identifier, release.columns))
        self._copy = statement("copy_rows", table=table, columns=columns)
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
        except _TooManyBadRows as error:
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
            copied, malformed = self._copy_good_rows(connection, block)
        finally:
            self._idle.put(connection)
        if copied + malformed != block.rows:
            raise PipelineError(
                f"{self._release.label}: PostgreSQL took {copied:,} rows for the {block.rows - malformed:,} from line"
                f" {block.first_line:,} on; nothing was loaded. Look there for a line that holds only \\."
            )
        with self._lock:
            self._staged.rows_read += block.rows
            self._staged.rows_copied += copied

    def _copy_good_rows(self, connection: Connection, block: Block) -> tuple[int, int]:
        data, remaining, malformed = block.data, None, 0
        while True:
            try:
                return (self._send(connection, data) if data else 0), malformed
            except psycopg2.DataError as error:
                remaining = remaining if remaining is not None else list(records(block))
                bad, row = _find_bad_row(remaining, error)
                self._set_aside(row)
                malformed += 1
                remaining.remove(bad)
                data = b"".join(record.data for record in remaining)

    def _send(self, connection: Connection, data: bytes) -> int:
        with connection.cursor() as cursor:
            cursor.copy_expert(self._copy, io.BytesIO(data), size=_COPY_CHUNK_BYTES)
            return int(cursor.rowcount)

    def _set_aside(self, row: MalformedRow) -> None:
        with self._lock:
            if len(self._staged.malformed) >= self._max_bad_rows:
                raise _TooManyBadRows(row)
            self._staged.malformed.append(row)

    def _explain(self, row: MalformedRow) -> PipelineError:
        allowed = f" (now {self._max_bad_rows})" if self._max_bad_rows else ""
        return PipelineError(
            f"{self._release.label}, line {row.line_number}, {row.detail}; nothing was loaded. Mend the file at its"
            f" source, or let such rows be set aside with --LoadTripdata-max-bad-rows{allowed}"
        )


def _find_bad_row(remaining: list[Record], error: psycopg2.DataError) -> tuple[Record, MalformedRow]:
    """The record that PostgreSQL complained of, and what is wrong with it."""
    if isinstance(error, psycopg2.errors.CharacterNotInRepertoire):
        # PostgreSQL checks the encoding a buffer at a time, so the line that it names may be another.
        record = next(record for record in remaining if not _is_utf8_text(record.data))
        column, value = "", record.text
    else:
        place = _COPY_PLACE.match(error.diag.context or "")
        record = _record_at(remaining, int(place["line"])) if place else remaining[0]
        column, value = (place["column"] or "", place["value"] or "") if place else ("", "")
    problem = error.diag.message_primary or str(error)
    where = f"column {column}: " if column else ""
    shown = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…"
    detail = f"{where}{problem}" + (f": {shown}" if shown and shown not in problem else "")
    return record, MalformedRow(record.line_number, record.text, detail)


def _record_at(remaining: list[Record], line: int) -> Record:
    for record in remaining:
        line -= record.data.count(b"\n")
        if line <= 0:
            return record
    return remaining[-1]


def _is_utf8_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False
