"""Watches over work on the server: says what it waits for and who blocks it, and ends it when the server is silent."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import connection as Connection

from pipeline.warehouses.postgres.connection import ConnectionLost, PostgresDatabase, statement

logger = logging.getLogger("luigi-interface")

FIRST_LOOK_SECONDS = 5.0  # most work is done by then, and costs no look
_REPEAT_SECONDS = 60.0
_NEVER = 1e6


@contextlib.contextmanager
def watched(database: PostgresDatabase, connection: Connection, what: str) -> Iterator[Watch]:
    """Looks after a connection's work from another connection, from some seconds on.

    :raises ConnectionLost: beginning with `what`, when the server does not answer for `answer_timeout` seconds.
    """
    watch = Watch(database, what)
    watch.add(connection)
    threading.Thread(target=watch.run, name="watch", daemon=True).start()
    try:
        yield watch
    except psycopg2.Error as error:
        if watch.is_silent:
            raise ConnectionLost(f"{what}: the server has not answered for {database.answer_timeout:g} s") from error
        raise
    finally:
        watch.done.set()


class Watch:
    """The connections of one piece of work, and what is known of their server."""

    def __init__(self, database: PostgresDatabase, what: str):
        self._database, self._what = database, what
        self._connections: list[Connection] = []
        self._sessions: list[int] = []
        self._logged = dict[tuple[Any, ...], float]()
        self.is_silent = False
        self.done = threading.Event()

    def add(self, connection: Connection) -> None:
        """Looks after one more connection."""
        self._connections.append(connection)
        self._sessions.append(connection.info.backend_pid)

    def run(self) -> None:
        """Looks every few seconds until the work is done, or the server is silent for too long."""
        while not self.done.wait(FIRST_LOOK_SECONDS):
            try:
                self._log_blockers(self._ask("select_blockers", {"sessions": list(self._sessions)}))
            except TimeoutError:
                self.is_silent = not self.done.is_set()
                self._cut_off()
                return
            except psycopg2.Error:
                continue  # no connection to spare, say; should the server be gone, the work itself notices

    def _ask(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement, by a connection that never waits for longer than `answer_timeout`."""
        deadline = time.monotonic() + (self._database.answer_timeout or _NEVER)
        info = self._connections[0].info  # where it is: asking for the embedded server again might start it
        place: dict[str, Any] = {**info.dsn_parameters, **({"password": info.password} if info.password else {})}
        with contextlib.closing(psycopg2.connect(async_=True, **place)) as asked:
            _wait(asked, deadline)
            with asked.cursor() as cursor:
                cursor.execute(statement(name), values)
                _wait(asked, deadline)
                return list(cursor.fetchall())

    def _log_blockers(self, rows: list[tuple[Any, ...]]) -> None:
        now = time.monotonic()
        for waiting_for, seconds, *blocker in rows:
            pid, application, user, state, since = blocker
            key = (waiting_for, pid)
            if seconds < FIRST_LOOK_SECONDS or now - self._logged.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
                continue
            self._logged[key] = now
            begun = f" since {_clock(since)}" if since else ""
            logger.warning(
                "%s: has been waiting for %s for %.0f s; it is blocked by pid %s (%s, user %s, %s%s)",
                self._what.split(" was ")[0],
                waiting_for,
                seconds,
                pid,
                application or "no application name",
                user,
                state,
                begun,
            )

    def _cut_off(self) -> None:
        """Makes whatever waits for the server's answer fail at once."""
        for connection in self._connections:
            with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)


def _wait(connection: Connection, deadline: float) -> None:
    """https://www.psycopg.org/docs/advanced.html#asynchronous-support"""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        reading = [connection.fileno()] if state == psycopg2.extensions.POLL_READ else []
        writing = [connection.fileno()] if state == psycopg2.extensions.POLL_WRITE else []
        left = deadline - time.monotonic()
        if left <= 0 or not any(select.select(reading, writing, [], left)):
            raise TimeoutError


def _clock(time_: datetime.datetime) -> str:
    return f"{time_.astimezone():%Y-%m-%d %H:%M:%S}"
