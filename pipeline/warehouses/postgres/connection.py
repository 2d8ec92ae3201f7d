"""Connections to PostgreSQL that behave the same whatever the server's or the user's settings are, and what they fail
with, in one line."""

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
from pipeline.warehouses.postgres.embedded import environment, environment_hidden_from_libpq
from pipeline.warehouses.statements import named_statements

NOT_A_DSN = "[postgres] dsn is not a libpq URL or key=value string"
# The text of the row id depends on the first two.
_SESSION = {
    "DateStyle": "ISO, MDY",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # A server thus notices in a minute that the client's machine is gone, and gives its locks up.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# The other way round: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer ones, silently


class LockTimeout(TransientError):
    """Another session held a lock for longer than `[postgres] lock_timeout`."""


class ConnectionLost(TransientError):
    """The server is not there, or went away; what was under way left nothing behind and may be tried again."""


@dataclass(frozen=True)
class PostgresDatabase:
    """A database and the schema in it that the pipeline works in.

    `dsn` is a libpq URL or key=value string. Where it is empty, `start_embedded` returns that of the embedded server,
    which it starts if it does not run. The timeouts are in seconds; a `lock_timeout` of 0 is none.

    :raises PipelineError: when the schema's name is longer than PostgreSQL's names are.
    """

    dsn: str = field(repr=False)  # it may hold a password
    schema: str
    copy_streams: int = 2
    start_embedded: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    connect_timeout: int = 15
    lock_timeout: float = 600
    answer_timeout: float = 120

    def __post_init__(self) -> None:
        if (length := len(self.schema.encode())) > _LONGEST_NAME:
            raise PipelineError(
                f"[postgres] schema: '{self.schema}' has {length} bytes, and PostgreSQL's names have"
                f" {_LONGEST_NAME} at most; choose a shorter one"
            )

    def connect(self, **session: str) -> Connection:
        """A new connection in autocommit mode, with the settings that loading relies on and any given beside them.

        :raises ConnectionLost: when the server cannot be reached or refuses; the message holds no password.
        """
        dsn = self.resolved_dsn()
        try:
            with environment_hidden_from_libpq() if self.is_embedded else contextlib.nullcontext():
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
        """Whether this is the embedded server, which libpq's environment variables are not about."""
        return not self.dsn and self.start_embedded is not None

    def resolved_dsn(self) -> str:
        """The DSN to connect by; that of the embedded server, started if need be, where none is set."""
        return self.dsn if self.dsn or self.start_embedded is None else self.start_embedded()

    def process_environment(self) -> dict[str, str]:
        """The environment for a child process that connects to this database."""
        return environment() if self.is_embedded else dict(os.environ)


def statement(name: str, /, **parts: sql.Composable) -> sql.Composed:
    """The statement of that name in `sql/postgres/`, its `{placeholders}` replaced by composed parts."""
    return _composable(name).format(**parts)


@functools.cache
def _composable(name: str) -> sql.SQL:
    return sql.SQL(named_statements("postgres")[name])


def lock_session(cursor: Cursor, name: str) -> None:
    """Waits for the advisory lock of that name and holds it until the session ends.

    https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    cursor.execute(statement("lock_session"), {"name": name})


def lock_transaction(cursor: Cursor, name: str) -> None:
    """Waits for the advisory lock of that name and holds it until the transaction ends."""
    cursor.execute(statement("lock_transaction"), {"name": name})


def table_exists(cursor: Cursor, table: sql.Identifier) -> bool:
    """Whether there is a relation of that name."""
    cursor.execute(statement("table_exists"), {"table": table.as_string(cursor)})
    row = cursor.fetchone()
    return bool(row and row[0])


@contextlib.contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Whatever PostgreSQL fails with in here is a PipelineError that begins with `what`.

    :raises ConnectionLost: when it may well be gone the next time.
    """
    try:
        yield
    except psycopg2.errors.DiskFull as error:
        raise PipelineError(f"{what}: the database server's disk is full ({_primary(error)}); make room") from error
    except psycopg2.errors.InsufficientPrivilege as error:
        raise PipelineError(f"{what}: {_primary(error)}; grant it, or choose another --postgres-schema") from error
    except psycopg2.errors.LockNotAvailable as error:
        raise LockTimeout(
            f"{what}: another session held a lock for longer than [postgres] lock_timeout; end it, or run again later"
        ) from error
    except psycopg2.errors.UndefinedColumn as error:
        raise PipelineError(
            f"{what}: {_primary(error)}, so there is a load_ledger or load_quarantine that is not the pipeline's;"
            " rename it, or choose another --postgres-schema"
        ) from error
    except psycopg2.Error as error:
        if _is_transient(error):
            raise ConnectionLost(f"{what}: the database connection broke ({_primary(error)})") from error
        raise PipelineError(f"{what}: PostgreSQL says: {_primary(error)}") from error


def connection_options(dsn: str, database: PostgresDatabase) -> dict[str, Any]:
    """What the user may set in the DSN or the environment, and otherwise is this."""
    try:
        given = psycopg2.extensions.parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        raise PipelineError(NOT_A_DSN) from None
    patience = (
        {}
        if "connect_timeout" in given or "PGCONNECT_TIMEOUT" in os.environ
        else {"connect_timeout": database.connect_timeout}
    )
    options = _KEEPALIVES | {"tcp_user_timeout": round(database.answer_timeout * 1000)}
    kept = {name: value for name, value in options.items() if name not in given}
    return {"fallback_application_name": "pipeline", **patience, **kept}


def _is_transient(error: psycopg2.Error) -> bool:
    """Whether it may well go away by itself: a broken connection, a server that stops or starts, a deadlock.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    if error.pgcode is None:  # psycopg2's own errors; one that breaks a COPY is a mere DatabaseError
        known = (psycopg2.OperationalError, psycopg2.InterfaceError)
        return isinstance(error, known) or type(error) is psycopg2.DatabaseError
    return error.pgcode.startswith(("08", "40", "57P"))


def _primary(error: psycopg2.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
