"""Reads a release file as the publisher made it: CSV, usually gzipped, in blocks of whole lines."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from isal import igzip, isal_zlib

from pipeline.datasets.spec import DatasetSpec
from pipeline.errors import PipelineError

BLOCK_BYTES = 4 << 20
_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1: told by the content, as names lie
_UTF8_BOM = b"\xef\xbb\xbf"
_CORRUPT: tuple[type[Exception], ...] = (gzip.BadGzipFile, cast(type[Exception], isal_zlib.error), zlib.error)
_QUOTED = re.compile(rb'"[^"]*"')


@dataclass(frozen=True)
class Block:
    """Some whole CSV records, each ended by a newline.

    `first_line` is the number in the file (from 1, the header's) of the block's first line; `rows` counts records.
    """

    data: bytes
    first_line: int
    rows: int


@dataclass(frozen=True)
class Record:
    """One CSV record with its line end, and the number of its (first) line in the file."""

    line_number: int
    data: bytes

    @property
    def text(self) -> str:
        """The record as text without its line end; what is not UTF-8 is escaped, and so is NUL."""
        return self.data.rstrip(b"\r\n").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def records(block: Block) -> Iterator[Record]:
    """The block's records one by one: slow, for when one of them has to be found."""
    line, start, pending = block.first_line, block.first_line, b""
    for piece in block.data.split(b"\n")[:-1]:  # not splitlines: PostgreSQL takes a lone CR for no line end here
        pending += piece + b"\n"
        line += 1
        if pending.count(b'"') % 2 == 0:
            yield Record(start, pending)
            start, pending = line, b""
    if pending:
        yield Record(start, pending)


class ReleaseFile:
    """A release file on disk, open for one pass; `columns` are the warehouse names in the file's own order.

    After the last block, `sha256` and `bytes_read` tell what the file was, compressed bytes and all.

    `label` is what messages call the file: its path, unless told otherwise.

    :raises PipelineError: from here or while iterating, when the file is not what the dataset's spec says, is
        truncated or corrupt; the message names the file, the line where there is one, and the remedy.
    """

    def __init__(self, path: Path, spec: DatasetSpec, label: str | None = None):
        self.label = label or str(path)
        self.spec = spec
        self._raw = _HashingReader(path)
        self._lines = self._decompressed()
        self._tail = b""
        with self._readable():
            header = self._lines.readline()
        self.columns = self._match_header(header)

    def __enter__(self) -> ReleaseFile:
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
        while True:
            with self._readable():
                chunk = self._lines.read(BLOCK_BYTES)
            if not chunk:
                break
            data, self._tail = _cut_after_record(self._tail + chunk)
            if data:
                yield Block(data, line, _count_records(data))
                line += data.count(b"\n")
        if self._tail:
            data = self._tail if self._tail.endswith(b"\n") else self._tail + b"\n"
            yield Block(data, line, max(_count_records(data), 1))

    def _decompressed(self) -> BinaryIO:
        magic = self._raw.peek(2)
        if not magic:
            raise PipelineError(f"{self.label}: the file is empty; {_REMEDY}")
        if magic == _GZIP_MAGIC:
            return cast(BinaryIO, igzip.open(self._raw, "rb"))
        return io.BufferedReader(self._raw, BLOCK_BYTES)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except EOFError as error:
            raise PipelineError(f"{self.label}: the gzip stream is cut off; {_REMEDY}") from error
        except _CORRUPT as error:
            raise PipelineError(f"{self.label}: the gzip stream is corrupt ({error}); {_REMEDY}") from error

    def _match_header(self, header: bytes) -> tuple[str, ...]:
        text = header.removeprefix(_UTF8_BOM).decode("utf-8", "backslashreplace").rstrip("\r\n")
        found = [name.strip() for name in next(csv.reader([text]), [])]
        lowered = [name.lower() for name in found]
        known = set(self.spec.column_names)
        problems = [f"lacks {c.source_name}" for c in self.spec.columns if c.name not in lowered]
        problems += [f"adds '{name}'" for name in found if name.lower() not in known]
        problems += [f"repeats '{name}'" for i, name in enumerate(lowered) if name in lowered[:i]]
        if problems:
            raise PipelineError(
                f"{self.label}, line 1: the header {', '.join(problems)}; if the publisher changed the file,"
                f" change the columns in pipeline/datasets/{self.spec.name}.yaml and raise its version"
            )
        return tuple(lowered)


_REMEDY = "if it is whole at its source, remove this copy with `pipeline forget` and run again"


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


def _cut_after_record(data: bytes) -> tuple[bytes, bytes]:
    """Splits after the last newline that ends a record: one outside quotes."""
    end = data.rfind(b"\n") + 1
    if b'"' in data:
        while end and data.count(b'"', 0, end) % 2:
            end = data.rfind(b"\n", 0, end - 1) + 1
    return data[:end], data[end:]


def _count_records(data: bytes) -> int:
    return (_QUOTED.sub(b"", data) if b'"' in data else data).count(b"\n")
