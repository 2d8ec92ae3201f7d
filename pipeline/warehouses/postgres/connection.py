"""Opens connections to PostgreSQL that do not depend on the server's or the user's defaults, and translates errors."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.errors import PipelineError, TransientError
from pipeline.files import named_statements

NOT_A_DSN = "[postgres] dsn is not a libpq URL or key=value string"
# Of loads and of builds, whatever the role or the database sets for its other users.
COMMON_SESSION = {
    # A load or a build that has waited for another one must then see the rows that the other one has committed.
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",  # a number's text has all of its digits
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
_SESSION = {
    **COMMON_SESSION,
    "DateStyle": "ISO, MDY",  # the row id depends on it, and on extra_float_digits
    "quote_all_identifiers": "off",  # quotes types in the catalogue, which are compared with those of the spec
    # The server then detects within a minute that the client's machine is gone, and releases its locks.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# The client detects a lost server likewise: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# Not in the session settings, because psycopg2 encodes texts by what the connection began with.
_ENCODING: dict[str, Any] = {"client_encoding": "UTF8"}
_MAX_NAME_BYTES = 63  # PostgreSQL truncates longer names without an error
_environment_lock = threading.Lock()


class LockTimeout(TransientError):
    """Raised if another session held a lock for longer than `[postgres] lock_timeout`."""


class ConnectionLost(TransientError):
    """Raised if the server is unreachable or ended the connection or its work, which can be retried."""


# What errors mean to users, and their remedies; {} is PostgreSQL's message.
_MEANINGS: dict[type[psycopg2.Error], tuple[type[PipelineError], str]] = {
    psycopg2.errors.DiskFull: (PipelineError, "the database server's disk is full ({}); free some space"),
    psycopg2.errors.InsufficientPrivilege: (PipelineError, "{}; grant it, or choose another [postgres] schema"),
    psycopg2.errors.ReadOnlySqlTransaction: (
        PipelineError,
        "{}; connect to the primary server if this is a standby, or else set default_transaction_read_only to off for"
        " the role and the database",
    ),
    psycopg2.errors.LockNotAvailable: (
        LockTimeout,
        "another session held a lock for longer than [postgres] lock_timeout; end it, or run again later",
    ),
    psycopg2.errors.DeadlockDetected: (
        ConnectionLost,
        "this and another session waited for each other ({})",
    ),
    psycopg2.errors.UndefinedColumn: (
        PipelineError,
        "{}, so another program created load_ledger or load_quarantine; rename it, or choose another [postgres] schema",
    ),
}


@dataclass(frozen=True)
class PostgresDatabase:
    """A database and the schema that the pipeline uses in it.

    `dsn` is a libpq URL or key=value string. If it is empty, `start_embedded` starts the embedded server unless it is
    running, and returns its DSN. Timeouts are in seconds; a `lock_timeout` of 0 disables it.

    :raises PipelineError: if the schema's name is longer than PostgreSQL allows.
    """

    dsn: str = field(repr=False)  # it may hold a password
    schema: str
    copy_streams: int = 2
    start_embedded: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    connect_timeout: int = 15
    lock_timeout: float = 600
    answer_timeout: float = 120

    def __post_init__(self) -> None:
        if (length := len(self.schema.encode())) > _MAX_NAME_BYTES:
            raise PipelineError(
                f"[postgres] schema: '{self.schema}' has {length} bytes, but names in PostgreSQL have at most"
                f" {_MAX_NAME_BYTES}; choose a shorter one"
            )

    def connect(self) -> Connection:
        """Returns a new connection in autocommit mode, for `set_up`.

        :raises ConnectionLost: if the server cannot be reached or refuses; the message contains no password.
        """
        dsn = self.resolved_dsn()
        try:
            with _libpq_environment_hidden() if self.is_embedded else contextlib.nullcontext():
                connection: Connection = psycopg2.connect(dsn, **self._options(dsn), **_ENCODING)
        except psycopg2.OperationalError as error:
            # libpq asks in a line of its own whether the server is running.
            reason = " ".join(re.sub(r"\n\tIs the server running .*", "", str(error)).split())
            variables = [] if self.is_embedded else sorted(name for name in os.environ if name.startswith("PG"))
            places = " and ".join(filter(None, ["[postgres] dsn", ", ".join(variables)]))
            raise ConnectionLost(f"no connection to PostgreSQL: {reason}; check {places}") from error
        connection.autocommit = True
        return connection

    def set_up(self, connection: Connection, **session: str) -> None:
        """Sets the session settings that loading needs, and `session`."""
        with connection.cursor() as cursor:
            settings = _SESSION | {"lock_timeout": f"{self.lock_timeout * 1000:.0f}ms"} | session
            execute(cursor, "set_settings", {"names": list(settings), "values": list(settings.values())})
            with contextlib.suppress(psycopg2.errors.InvalidParameterValue):
                execute(cursor, "set_connection_check")

    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded server, to which libpq's environment variables do not apply."""
        return not self.dsn and self.start_embedded is not None

    def resolved_dsn(self) -> str:
        """Returns the configured DSN, or that of the embedded server, which is started if necessary."""
        return self.dsn if self.dsn or self.start_embedded is None else self.start_embedded()

    def process_environment(self) -> dict[str, str]:
        """Returns the environment of a child process that connects to this database."""
        return environment_without_libpq() if self.is_embedded else dict(os.environ)

    def _options(self, dsn: str) -> dict[str, Any]:
        """Returns defaults for the connection parameters that neither the DSN nor the environment sets."""
        try:
            given = psycopg2.extensions.parse_dsn(dsn).keys()
        except psycopg2.ProgrammingError:
            raise PipelineError(NOT_A_DSN) from None
        options: dict[str, Any] = {"fallback_application_name": "pipeline"}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            options["connect_timeout"] = self.connect_timeout
        options |= _KEEPALIVES | {"tcp_user_timeout": round(self.answer_timeout * 1000)}
        return {name: value for name, value in options.items() if name not in given}


def environment_without_libpq() -> dict[str, str]:
    """Returns this process's environment without libpq's variables, which do not apply to the embedded server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@contextlib.contextmanager
def _libpq_environment_hidden() -> Iterator[None]:
    """Removes libpq's variables from this process's environment for the block; one thread at a time.

    Connection parameters override most of them, but not PGSERVICE.
    """
    with _environment_lock:
        hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
        try:
            yield
        finally:
            os.environ.update(hidden)


def statement(name: str, /, **parts: sql.Composable) -> sql.Composed:
    """Returns a statement of `sql/postgres/` with its `{placeholders}` replaced by `parts`."""
    return sql.SQL(named_statements("postgres")[name]).format(**parts)


def execute(cursor: Cursor, name: str, values: Mapping[str, Any] | None = None, /, **parts: sql.Composable) -> None:
    """Executes a statement of `sql/postgres/` with its `{placeholders}` replaced by `parts`."""
    if values:  # psycopg2 then takes each % for a placeholder, those in identifiers too
        parts = {key: sql.SQL(part.as_string(cursor).replace("%", "%%")) for key, part in parts.items()}
    cursor.execute(statement(name, **parts), values)


def value_of(cursor: Cursor, name: str, values: Mapping[str, Any] | None = None, /, **parts: sql.Composable) -> Any:
    """Returns the only value that a statement of `sql/postgres/` selects."""
    execute(cursor, name, values, **parts)
    [(value,)] = cursor.fetchall()
    return value


def table_exists(cursor: Cursor, table: sql.Identifier) -> bool:
    """Returns whether there is a relation of that name."""
    return bool(value_of(cursor, "table_exists", {"table": table.as_string(cursor)}))


@contextlib.contextmanager
def translate_errors(failure: str) -> Iterator[None]:
    """Translates PostgreSQL's errors to PipelineError with a message that begins with `failure`.

    :raises ConnectionLost: if the error is transient.
    """
    try:
        yield
    except psycopg2.Error as error:
        other = (PipelineError, "PostgreSQL says: {}")
        if _is_transient(error):
            other = (ConnectionLost, "the database connection broke ({})")
        kind, meaning = _MEANINGS.get(type(error), other)
        message = error.diag.message_primary or " ".join(str(error).split())
        if isinstance(error, psycopg2.errors.OutOfMemory) and error.diag.message_hint:
            message += f" ({error.diag.message_hint.rstrip('.')})"  # which setting to raise
        raise kind(f"{failure}: {meaning.format(message)}") from error


def _is_transient(error: psycopg2.Error) -> bool:
    """Returns whether a retry may succeed: after a lost connection, a server's stop or start, or a deadlock.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    if error.pgcode is None:  # psycopg2's own errors; a lost connection during COPY is a plain DatabaseError
        known = (psycopg2.OperationalError, psycopg2.InterfaceError)
        return isinstance(error, known) or type(error) is psycopg2.DatabaseError
    return error.pgcode.startswith(("08", "40", "57P"))
