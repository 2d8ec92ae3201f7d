"""Reads a release file as the publisher made it: CSV, usually gzipped, in blocks of whole lines."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from isal import igzip, isal_zlib

from pipeline.datasets import Column, Release, Source, format_month
from pipeline.errors import PipelineError
from pipeline.releases.csv_records import Block, Record, count_records, records
from pipeline.releases.survey import Survey

__all__ = ["Block", "CsvRelease", "Record", "records"]

BLOCK_BYTES = 1 << 20
LONGEST_RECORD = 1 << 20  # which keeps memory flat when a stray quote makes one record of all that follows it
_LONGEST_HEADER = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1: told by the content, as names lie
_UTF8_BOM = b"\xef\xbb\xbf"
_CORRUPT: tuple[type[Exception], ...] = (gzip.BadGzipFile, cast(type[Exception], isal_zlib.error), zlib.error)


class CsvRelease:
    """A release file on disk, open for one pass; `columns` are the warehouse names in the file's own order.

    `header` is its first line as it stands; `blocks()` or `read()` gives what follows.

    After the last block, `sha256` and `bytes_read` tell what the file was, compressed bytes and all, and `text_bytes`
    how long its text was.

    `label` is what messages call the file: its path, unless told otherwise. `remedy` is what they advise to do.

    :raises PipelineError: from here or while iterating, when the file is not what the dataset's spec says, is
        truncated or corrupt; the message names the file, the line where there is one, and the remedy.
    """

    format = "csv"

    def __init__(
        self, path: Path, release: Release, source: Source, label: str | None = None, remedy: str | None = None
    ):
        self.label = label or str(path)
        self._remedy = remedy or _REMEDY
        self.release, self.source, self.dataset = release, source, release.dataset
        self._raw = _HashingReader(path)
        self._lines = self._decompressed()
        with self._readable():
            self.header = self._lines.readline(_LONGEST_HEADER)
        self._newline = b"\r\n" if self.header.endswith(b"\r\n") else b"\n"
        self.text_bytes = len(self.header)
        self.columns = self._match_header(self.header)

    def __enter__(self) -> CsvRelease:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._raw.close()

    @property
    def bytes_read(self) -> int:
        """How many of the file's bytes (compressed ones, if it is) have been read so far."""
        return self._raw.bytes_read

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes read so far, in hexadecimal digits."""
        return self._raw.digest.hexdigest()

    def blocks(self) -> Iterator[Block]:
        """The records in order; the gzip checksum has been checked when this ends."""
        line = 2
        while chunk := self.read(BLOCK_BYTES):
            data = chunk + self._rest_of_record(chunk, line)
            rows = count_records(data)
            self.text_bytes += len(data)
            yield Block(data, line, rows)
            line += data.count(b"\n") if b'"' in data else rows

    def survey(self) -> Survey:
        """Reads all of the file; counts the records, and those in the release's month."""
        found, count = Survey(), self._counter_of_months()
        for block in self.blocks():
            found.rows += block.rows
            count(block, found)
        return found

    def _counter_of_months(self) -> Callable[[Block, Survey], None]:
        """What adds a block's records to a survey by month. Blocks that look right are not taken apart for it."""
        month, event_time = self.release.month, self.dataset.event_time
        if month is None or event_time not in self.columns:
            return _count_all
        text = f"{month:%Y-%m}-".encode()
        place = self.columns.index(event_time)
        types = {column.name: column.postgres_type for column in self.dataset.columns}
        times = sum(types[name] == "timestamp" for name in self.columns)

        def count(block: Block, found: Survey) -> None:
            likely = min(block.rows, block.data.count(text) // times)
            if likely >= block.rows * _LIKELY_SHARE:
                found.rows_in_month += likely
                found.months[format_month(month)] += likely
                return
            for record in records(block):
                fields = next(csv.reader([record.text]), [])
                value = fields[place][:7] if len(fields) > place else ""
                found.months[value] += 1
                found.rows_in_month += value == format_month(month)

        return count

    def csv_text(self) -> Iterator[bytes]:
        """The file's text: the header, then blocks of whole records."""
        yield self.header
        for block in self.blocks():
            yield block.data

    def _rest_of_record(self, chunk: bytes, first_line: int) -> bytes:
        """What the record that the chunk breaks off in goes on with, and the newline that the file may lack."""
        rest, size, last = list[bytes](), 0, chunk
        quoted = chunk.count(b'"') % 2 if b'"' in chunk else 0
        while quoted or not last.endswith(b"\n"):
            if size > LONGEST_RECORD:
                line = first_line + chunk.count(b"\n", 0, chunk.rfind(b'"') if quoted else len(chunk))
                raise PipelineError(
                    f"{self.label}, line {line}: a record of more than {LONGEST_RECORD:,} bytes, so probably a quote"
                    f" that is never closed; {self._remedy}"
                )
            if not (piece := self._read_line()):
                return b"".join(rest) + (b"" if last.endswith(b"\n") else self._newline.removeprefix(last[-1:]))
            rest.append(piece)
            size, last, quoted = size + len(piece), piece, (quoted + piece.count(b'"')) % 2
        return b"".join(rest)

    def read(self, size: int) -> bytes:
        """The next bytes of what follows the header, decompressed; fewer than `size` only at the file's end."""
        with self._readable():
            return self._lines.read(size)

    def _read_line(self) -> bytes:
        with self._readable():
            return self._lines.readline(LONGEST_RECORD)

    def _decompressed(self) -> BinaryIO:
        magic = self._raw.peek(2)
        if not magic:
            raise PipelineError(f"{self.label}: the file is empty; {self._remedy}")
        if magic == _GZIP_MAGIC:
            return cast(BinaryIO, igzip.open(self._raw, "rb"))
        return io.BufferedReader(self._raw, BLOCK_BYTES)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except EOFError as error:
            raise PipelineError(
                f"{self.label}: the gzip stream is cut off, or other bytes follow it; {self._remedy}"
            ) from error
        except _CORRUPT as error:
            raise PipelineError(f"{self.label}: the gzip stream is corrupt ({error}); {self._remedy}") from error

    def _match_header(self, header: bytes) -> tuple[str, ...]:
        names = _names(header)
        lowered = [name.lower() for name in names]
        known = {alias.lower(): c.name for c in self.dataset.columns for alias in (c.source_name, *c.aliases)}
        lowered = [known.get(name, name) for name in lowered]
        if not set(known.values()).intersection(lowered):
            shown = header.decode("utf-8", "backslashreplace").rstrip("\r\n")[:60]
            raise PipelineError(
                f"{self.label}, line 1: not a {self.dataset.name} file, as it begins with {shown!r}; {self._remedy}"
            )
        problems = [f"lacks {c.source_name}" for c in self._wanted() if c.name not in lowered]
        problems += [f"adds {name!r}" for name in names if name.lower() not in known]
        problems += [f"repeats {name!r}" for i, name in enumerate(names) if name.lower() in lowered[:i]]
        if problems:
            more = f" and has {len(problems) - _SHOWN_PROBLEMS} more problems" if problems[_SHOWN_PROBLEMS:] else ""
            raise PipelineError(
                f"{self.label}, line 1: the header {', '.join(problems[:_SHOWN_PROBLEMS])}{more}; if the publisher"
                f" changed the file, change the columns in pipeline/datasets/{self.dataset.name}.yaml and raise its"
                f" version"
            )
        return tuple(lowered)

    def _wanted(self) -> tuple[Column, ...]:
        return self.dataset.columns_of(self.release.month, self.source)


def _count_all(block: Block, found: Survey) -> None:
    found.rows_in_month += block.rows


_LIKELY_SHARE = 0.9  # of a block's rows in the month by a quick look: the exact count would then not be below any share
_REMEDY = "if it is whole at its source, remove this copy with `pipeline forget` and run again"
_SHOWN_PROBLEMS = 12


def _names(header: bytes) -> list[str]:
    text = header.removeprefix(_UTF8_BOM).decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        return [name.strip() for name in next(csv.reader([text]), [])]
    except csv.Error:  # a carriage return, say, in the middle of it
        return []


class _HashingReader(io.RawIOBase):
    """A file that keeps the digest of what has been read of it."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        self.digest = hashlib.sha256()
        self.bytes_read = 0

    def peek(self, size: int) -> bytes:
        start = self._file.read(size)
        self._file.seek(0)
        return start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:size])
        self.bytes_read += size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
