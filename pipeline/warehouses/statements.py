"""SQL statements by name: a file in `sql/<warehouse>/` for each noun, with `-- name: attach_partition` above each."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import SQL

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@functools.cache
def named_statements(folder: str) -> Mapping[str, str]:
    """The statements in the files of `sql/<folder>/`, by name, each without its final semicolon.

    :raises ValueError: when two have one name, as then one of them would never run.
    """
    statements: dict[str, str] = {}
    for file in sorted((SQL / folder).glob("*.sql")):
        for name, text in _read(file):
            if name in statements:
                raise ValueError(f"{file}: there is another statement called {name}")
            statements[name] = text
    return statements


def _read(file: Path) -> list[tuple[str, str]]:
    _, *parts = _NAME.split(file.read_text())
    return [(name, text.strip().removesuffix(";")) for name, text in zip(parts[::2], parts[1::2], strict=True)]
