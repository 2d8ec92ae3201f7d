"""Connections to PostgreSQL that behave the same whatever the server's or the user's settings are."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection

from pipeline.errors import PipelineError

# The id's text depends on the first two; the last ends a server process within a second of its client's death.
_SESSION = {
    "DateStyle": "ISO, MDY",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_connection_check_interval": "1s",
}


@dataclass(frozen=True)
class PostgresDatabase:
    """A database and the schema in it that the pipeline works in."""

    dsn: str
    schema: str
    copy_streams: int = 2

    def connect(self, **session: str) -> Connection:
        """A new connection in autocommit mode, with the settings that loading relies on and any given beside them.

        :raises PipelineError: when the server cannot be reached or refuses; the message holds no password.
        """
        try:
            connection = psycopg2.connect(self.dsn, application_name="pipeline", connect_timeout=15)
        except psycopg2.OperationalError as error:
            reason = " ".join(str(error).split())
            raise PipelineError(f"no connection to PostgreSQL: {reason}; check [postgres] dsn") from error
        connection.autocommit = True
        with connection.cursor() as cursor:
            for name, value in (_SESSION | session).items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        return connection
