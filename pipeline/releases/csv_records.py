"""CSV records in blocks of bytes: where they end, how many there are, and which line each is on.

A record ends at a newline outside quotes, and every quote opens or closes: PostgreSQL's rule, which for well-formed
CSV is everybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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
    line, start, pending, quoted = block.first_line, block.first_line, list[bytes](), False
    for piece in block.data.split(b"\n")[:-1]:  # not splitlines: PostgreSQL takes a lone CR for no line end here
        pending.append(piece + b"\n")
        line += 1
        quoted ^= piece.count(b'"') % 2 == 1
        if not quoted:
            yield Record(start, b"".join(pending))
            start, pending = line, []
    if pending:
        yield Record(start, b"".join(pending))


def count_records(data: bytes) -> int:
    """How many records some CSV is, each ended by a newline; one whose quote is never closed takes in all the rest."""
    if b'"' not in data:
        return data.count(b"\n")
    open_quote = data.rfind(b'"') if data.count(b'"') % 2 else len(data)
    return _QUOTED.sub(b"", data[:open_quote]).count(b"\n") + (open_quote < len(data))
