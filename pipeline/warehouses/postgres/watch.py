"""Monitors work on the server: logs which session blocks it, and aborts it if the server stops responding."""

from __future__ import annotations

import contextlib
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

from pipeline.warehouses.postgres.connection import ConnectionLost, PostgresDatabase, execute, translate_errors

logger = logging.getLogger("luigi-interface")

CHECK_SECONDS = 5.0  # most work ends before the first check
_REPEAT_SECONDS = 60.0
_NEVER = 1e6


@contextlib.contextmanager
def watched_connection(database: PostgresDatabase, failure: str, **session: str) -> Iterator[tuple[Connection, Watch]]:
    """Opens a connection and monitors its work from another one, with a check every `CHECK_SECONDS`.

    :raises PipelineError: for any error of PostgreSQL, and a ConnectionLost if the server does not answer for
        `answer_timeout` seconds; the message begins with `failure`.
    """
    watch = Watch(database, failure)
    with translate_errors(failure):
        try:
            threading.Thread(target=watch.run, name="watch", daemon=True).start()
            with watch.connect(**session) as connection:
                yield connection, watch
        except psycopg2.Error as error:
            if watch.is_unresponsive:
                seconds = database.answer_timeout
                raise ConnectionLost(f"{failure}: the server has not answered for {seconds:g} s") from error
            raise
        finally:
            watch.done.set()


class Watch:
    """Monitors the connections of one piece of work and their server."""

    def __init__(self, database: PostgresDatabase, failure: str):
        self.database, self._work = database, failure.partition(" was ")[0]
        self._lock = threading.Lock()
        self._connections = dict[int, Connection]()  # by the pid of the server process
        self._logged = dict[tuple[Any, ...], float]()
        self._stalled, self._stalled_checks = set[tuple[Any, ...]](), 0
        self.is_unresponsive = False
        self.done = threading.Event()

    @contextlib.contextmanager
    def connect(self, **session: str) -> Iterator[Connection]:
        """Opens one more connection and monitors it, from its first statement until the block ends."""
        with contextlib.closing(self.database.connect()) as connection:
            pid = connection.info.backend_pid
            with self._lock:
                self._connections[pid] = connection
            try:
                self.database.set_up(connection, **session)
                yield connection
            finally:
                with self._lock:
                    del self._connections[pid]

    def run(self) -> None:
        """Checks every `CHECK_SECONDS` until the work is done or the server is unresponsive."""
        while not self.done.wait(CHECK_SECONDS):
            try:
                self._log_blockers(self._query_server("select_blockers"))
                self._check_responses(self._query_server("select_sessions_without_work"))
            except TimeoutError:
                self.is_unresponsive = not self.done.is_set()
                self._shut_down_connections()
                return
            except psycopg2.Error:
                continue  # too many connections, for example; if the server is gone, the work itself fails

    def _check_responses(self, sessions_without_work: list[tuple[Any, ...]]) -> None:
        """Detects a frozen server process: the client waits for it, although it has nothing to do.

        Counts checks instead of seconds, which also pass while this process itself is suspended.

        :raises TimeoutError: after `answer_timeout` seconds.
        """
        active = psycopg2.extensions.TRANSACTION_STATUS_ACTIVE
        with self._lock:
            waiting = {pid for pid, each in self._connections.items() if each.info.transaction_status == active}
        previous, self._stalled = self._stalled, {session for session in sessions_without_work if session[0] in waiting}
        frozen = sorted(pid for pid, _ in previous & self._stalled)
        self._stalled_checks = self._stalled_checks + 1 if frozen else 0
        seconds = self._stalled_checks * CHECK_SECONDS
        if frozen and self._should_log(*frozen):
            pids = ", ".join(map(str, frozen))
            logger.warning("%s: has been waiting for the server's process %s for %.0f s", self._work, pids, seconds)
        if seconds >= (self.database.answer_timeout or _NEVER):
            raise TimeoutError

    def _query_server(self, name: str) -> list[tuple[Any, ...]]:
        """Returns a statement's rows about the sessions; waits for at most `answer_timeout` seconds."""
        deadline = time.monotonic() + (self.database.answer_timeout or _NEVER)
        with self._lock:
            connections = dict(self._connections)
        if not connections:
            return []
        info = next(iter(connections.values())).info  # resolving the DSN again could start the embedded server
        parameters: dict[str, Any] = {**info.dsn_parameters, **({"password": info.password} if info.password else {})}
        with contextlib.closing(psycopg2.connect(async_=True, **parameters)) as monitor:
            _wait_for_connection(monitor, deadline)
            with monitor.cursor() as cursor:
                execute(cursor, name, {"sessions": list(connections)})
                _wait_for_connection(monitor, deadline)
                return list(cursor.fetchall())

    def _log_blockers(self, rows: list[tuple[Any, ...]]) -> None:
        for waiting_for, seconds, pid, application, user, state, since in rows:
            if seconds >= CHECK_SECONDS and self._should_log(waiting_for, pid):
                since_text = f" since {since.astimezone():%Y-%m-%d %H:%M:%S}" if since else ""
                blocker = f"pid {pid} ({application or 'no application name'}, user {user}, {state}{since_text})"
                message = "%s: has been waiting for %s for %.0f s; it is blocked by %s"
                logger.warning(message, self._work, waiting_for, seconds, blocker)

    def _should_log(self, *key: Any) -> bool:
        """Returns whether this was not logged within the last minute, and records that it is logged now."""
        now = time.monotonic()
        if now - self._logged.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        self._logged[key] = now
        return True

    def _shut_down_connections(self) -> None:
        """Shuts down the sockets, so that everything that waits for the server fails at once."""
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)


def _wait_for_connection(connection: Connection, deadline: float) -> None:
    """See https://www.psycopg.org/docs/advanced.html#asynchronous-support."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        reading = [connection.fileno()] if state == psycopg2.extensions.POLL_READ else []
        writing = [connection.fileno()] if state == psycopg2.extensions.POLL_WRITE else []
        left = deadline - time.monotonic()
        if left <= 0 or not any(select.select(reading, writing, [], left)):
            raise TimeoutError
