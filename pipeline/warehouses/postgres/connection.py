"""Connections to PostgreSQL that behave the same whatever the server's or the user's settings are."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2.extensions import connection as Connection

from pipeline.errors import PipelineError

NOT_A_DSN = "[postgres] dsn is not a libpq URL or key=value string"
_SET_CONFIG = "SELECT set_config(name, value, false) FROM unnest(%(names)s, %(values)s) AS setting (name, value)"
# The text of the row id depends on the first two.
_SESSION = {
    "DateStyle": "ISO, MDY",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


class ConnectionLost(PipelineError):
    """The server is not there, or went away; what was under way left nothing behind and may be tried again."""


@dataclass(frozen=True)
class PostgresDatabase:
    """A database and the schema in it that the pipeline works in."""

    dsn: str = field(repr=False)  # it may hold a password
    schema: str
    copy_streams: int = 2

    def connect(self, **session: str) -> Connection:
        """A new connection in autocommit mode, with the settings that loading relies on and any given beside them.

        :raises ConnectionLost: when the server cannot be reached or refuses; the message holds no password.
        """
        try:
            connection: Connection = psycopg2.connect(self.dsn, **self._defaults())
        except psycopg2.OperationalError as error:
            reason = " ".join(str(error).split())
            raise ConnectionLost(f"no connection to PostgreSQL: {reason}; check [postgres] dsn") from error
        connection.autocommit = True
        with connection.cursor() as cursor:
            settings = _SESSION | session
            cursor.execute(_SET_CONFIG, {"names": list(settings), "values": list(settings.values())})
            # A server process then ends within a second of its client's death; not every platform can do it.
            with contextlib.suppress(psycopg2.errors.InvalidParameterValue):
                cursor.execute("SELECT set_config('client_connection_check_interval', '1s', false)")
        return connection

    def _defaults(self) -> dict[str, Any]:
        """What the user may set in the DSN or the environment, and otherwise is this."""
        try:
            given = psycopg2.extensions.parse_dsn(self.dsn)
        except psycopg2.ProgrammingError:
            raise PipelineError(NOT_A_DSN) from None
        patience = {} if "connect_timeout" in given or "PGCONNECT_TIMEOUT" in os.environ else {"connect_timeout": 15}
        return {"fallback_application_name": "pipeline", **patience}
