"""Opens connections to PostgreSQL that do not depend on the server's or the user's defaults, and translates errors."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from pipeline.errors import PipelineError, TransientError
from pipeline.warehouses.postgres.embedded import environment, hide_libpq_environment
from pipeline.warehouses.statements import named_statements

NOT_A_DSN = "[postgres] dsn is not a libpq URL or key=value string"
# The row id depends on the first two.
_SESSION = {
    "DateStyle": "ISO, MDY",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # The server then detects within a minute that the client's machine is gone, and releases its locks.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# The client detects a lost server likewise: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_MAX_NAME_BYTES = 63  # PostgreSQL truncates longer names without an error


class LockTimeout(TransientError):
    """Raised if another session held a lock for longer than `[postgres] lock_timeout`."""


class ConnectionLost(TransientError):
    """Raised if the server is unreachable or the connection was lost; the work was rolled back and can be retried."""


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

    def connect(self, **session: str) -> Connection:
        """Returns a new connection in autocommit mode, with the session settings that loading needs and `session`.

        :raises ConnectionLost: if the server cannot be reached or refuses; the message contains no password.
        """
        dsn = self.resolved_dsn()
        try:
            with hide_libpq_environment() if self.is_embedded else contextlib.nullcontext():
                connection: Connection = psycopg2.connect(dsn, **connection_options(dsn, self))
        except psycopg2.OperationalError as error:
            reason = " ".join(str(error).split())
            raise ConnectionLost(f"no connection to PostgreSQL: {reason}; check [postgres] dsn") from error
        connection.autocommit = True
        with connection.cursor() as cursor:
            settings = _SESSION | {"lock_timeout": f"{self.lock_timeout * 1000:.0f}ms"} | session
            cursor.execute(statement("set_settings"), {"names": list(settings), "values": list(settings.values())})
            with contextlib.suppress(psycopg2.errors.InvalidParameterValue):
                cursor.execute(statement("set_connection_check"))
        return connection

    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded server, to which libpq's environment variables do not apply."""
        return not self.dsn and self.start_embedded is not None

    def resolved_dsn(self) -> str:
        """Returns the configured DSN, or that of the embedded server, which is started if necessary."""
        return self.dsn if self.dsn or self.start_embedded is None else self.start_embedded()

    def process_environment(self) -> dict[str, str]:
        """Returns the environment of a child process that connects to this database."""
        return environment() if self.is_embedded else dict(os.environ)


def statement(name: str, /, **parts: sql.Composable) -> sql.Composed:
    """Returns a statement of `sql/postgres/` with its `{placeholders}` replaced by `parts`."""
    return _composable(name).format(**parts)


@functools.cache
def _composable(name: str) -> sql.SQL:
    return sql.SQL(named_statements("postgres")[name])


def lock_session(cursor: Cursor, name: str) -> None:
    """Acquires the advisory lock of that name until the session ends, waiting if necessary.

    https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    cursor.execute(statement("lock_session"), {"name": name})


def lock_transaction(cursor: Cursor, name: str) -> None:
    """Acquires the advisory lock of that name until the transaction ends, waiting if necessary."""
    cursor.execute(statement("lock_transaction"), {"name": name})


def table_exists(cursor: Cursor, table: sql.Identifier) -> bool:
    """Returns whether there is a relation of that name."""
    cursor.execute(statement("table_exists"), {"table": table.as_string(cursor)})
    row = cursor.fetchone()
    return bool(row and row[0])


@contextlib.contextmanager
def translate_errors(failure: str) -> Iterator[None]:
    """Translates PostgreSQL's errors to PipelineError with a message that begins with `failure`.

    :raises ConnectionLost: if the error is transient.
    """
    try:
        yield
    except psycopg2.errors.DiskFull as error:
        raise PipelineError(
            f"{failure}: the database server's disk is full ({_primary_message(error)}); make room"
        ) from error
    except psycopg2.errors.InsufficientPrivilege as error:
        raise PipelineError(
            f"{failure}: {_primary_message(error)}; grant it, or choose another --postgres-schema"
        ) from error
    except psycopg2.errors.LockNotAvailable as error:
        raise LockTimeout(
            f"{failure}: another session held a lock for longer than [postgres] lock_timeout; end it,"
            " or run again later"
        ) from error
    except psycopg2.errors.UndefinedColumn as error:
        raise PipelineError(
            f"{failure}: {_primary_message(error)}, so another program created load_ledger or load_quarantine;"
            " rename it, or choose another --postgres-schema"
        ) from error
    except psycopg2.Error as error:
        if _is_transient(error):
            raise ConnectionLost(f"{failure}: the database connection broke ({_primary_message(error)})") from error
        raise PipelineError(f"{failure}: PostgreSQL says: {_primary_message(error)}") from error


def connection_options(dsn: str, database: PostgresDatabase) -> dict[str, Any]:
    """Returns defaults for the connection parameters that neither the DSN nor the environment sets."""
    try:
        given = psycopg2.extensions.parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        raise PipelineError(NOT_A_DSN) from None
    timeout = (
        {}
        if "connect_timeout" in given or "PGCONNECT_TIMEOUT" in os.environ
        else {"connect_timeout": database.connect_timeout}
    )
    options = _KEEPALIVES | {"tcp_user_timeout": round(database.answer_timeout * 1000)}
    kept = {name: value for name, value in options.items() if name not in given}
    return {"fallback_application_name": "pipeline", **timeout, **kept}


def _is_transient(error: psycopg2.Error) -> bool:
    """Returns whether a retry may succeed: after a lost connection, a server's stop or start, or a deadlock.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    if error.pgcode is None:  # psycopg2's own errors; a lost connection during COPY is a plain DatabaseError
        known = (psycopg2.OperationalError, psycopg2.InterfaceError)
        return isinstance(error, known) or type(error) is psycopg2.DatabaseError
    return error.pgcode.startswith(("08", "40", "57P"))


def _primary_message(error: psycopg2.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
