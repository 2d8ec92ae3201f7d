"""Splits blocks of CSV into records and counts them.

A record ends at a newline outside quotes, and every quote character opens or closes a quoted part. This is PostgreSQL's
rule, which agrees with other parsers for well-formed CSV.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_QUOTED = re.compile(rb'"[^"]*"')


@dataclass(frozen=True)
class Block:
    """Complete CSV records, each ended by a newline.

    `first_line` is the number of the block's first line in the file (the header is line 1); `rows` counts records.
    """

    data: bytes
    first_line: int
    rows: int


@dataclass(frozen=True)
class Record:
    """One CSV record with its line ending, and the number of its first line in the file."""

    line_number: int
    data: bytes

    @property
    def text(self) -> str:
        """The record as text without its line ending; NUL and bytes that are not UTF-8 are escaped."""
        return self.data.rstrip(b"\r\n").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def records(block: Block) -> Iterator[Record]:
    """Yields the block's records; slow, so used only if single records are needed."""
    line, start, pending, quoted = block.first_line, block.first_line, list[bytes](), False
    for piece in block.data.split(b"\n")[:-1]:  # not splitlines(): a lone CR is not a line ending
        pending.append(piece + b"\n")
        line += 1
        quoted ^= piece.count(b'"') % 2 == 1
        if not quoted:
            yield Record(start, b"".join(pending))
            start, pending = line, []
    if pending:
        yield Record(start, b"".join(pending))


def count_records(data: bytes) -> int:
    """Returns the number of records, each ended by a newline; an unclosed quote extends its record to the end."""
    if b'"' not in data:
        return data.count(b"\n")
    open_quote = data.rfind(b'"') if data.count(b'"') % 2 else len(data)
    return _QUOTED.sub(b"", data[:open_quote]).count(b"\n") + (open_quote < len(data))
