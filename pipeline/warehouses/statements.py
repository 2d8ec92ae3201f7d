"""Reads the named SQL statements in `sql/<warehouse>/`; a line such as `-- name: attach_partition` begins each one."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from pipeline.files import SQL

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@functools.cache
def named_statements(folder: str) -> Mapping[str, str]:
    """Returns the statements in the files of `sql/<folder>/` by name, each without its final semicolon.

    :raises ValueError: if two statements have the same name.
    """
    statements: dict[str, str] = {}
    for file in sorted((SQL / folder).glob("*.sql")):
        _, *parts = _NAME.split(file.read_text())
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"{file}: there is another statement called {name}")
            statements[name] = text.strip().removesuffix(";")
    return statements
