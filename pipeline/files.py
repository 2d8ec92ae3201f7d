"""Locations of the package's files and data, its SQL statements, file locks and atomic writes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import PipelineError

_PACKAGE = Path(__file__).parent
# The parent of the package: the checkout, or site-packages if a wheel is installed.
CHECKOUT = _PACKAGE.parent
_IN_CHECKOUT = (CHECKOUT / "luigi.cfg").is_file() and (CHECKOUT / "sql").is_dir()
# The files of the package other than Python modules; a wheel contains copies (setup.py).
SHIPPED = CHECKOUT if _IN_CHECKOUT else _PACKAGE / "shipped"
SQL = SHIPPED / "sql"
CENTRAL_SETTINGS = SHIPPED / "central.cfg"
SAMPLES = SHIPPED / "samples"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_STATEMENT_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def data_home() -> Path:
    """Returns the folder that a relative storage root is relative to, in any current directory.

    This is the checkout, or `$XDG_DATA_HOME/tlc-pipeline` (by default `~/.local/share/tlc-pipeline`) without one.
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    if _IN_CHECKOUT:
        return CHECKOUT
    folder = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".local" / "share") / "tlc-pipeline"


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Lets one process at a time write a file, the others wait; the kernel releases the lock of a killed process.

    :raises OSError: if the folder is not writable.
    """
    lock_file = file.parent / ".locks" / file.name
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def storage_errors(file: Path) -> Iterator[None]:
    """Translates operating system errors to one line that names the file, by default `file`, and the remedy.

    Errors of connections, which are OSErrors as well, are not translated.

    :raises PipelineError: instead of OSError, for example if the disk is full or a folder is not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            raise
        remedy = "free some space" if error.errno in _DISK_FULL else "fix that"
        where = error.filename2 or error.filename or file
        raise PipelineError(f"{where}: {error.strerror}; {remedy}, or change [storage] root") from error


def replace_file(file: Path, content: bytes) -> None:
    """Replaces the content of a file atomically.

    :raises OSError: if it cannot be written; the file is unchanged.
    """
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@functools.cache
def named_statements(folder: str) -> Mapping[str, str]:
    """Returns the statements in `sql/<folder>/` by the name in the line above each, such as `-- name: delete_load`.

    They have no final semicolons.

    :raises ValueError: if two statements have the same name.
    """
    statements: dict[str, str] = {}
    for file in sorted((SQL / folder).glob("*.sql")):
        _, *parts = _STATEMENT_NAME.split(file.read_text())
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"{file}: there is another statement called {name}")
            statements[name] = text.strip().removesuffix(";")
    return statements
