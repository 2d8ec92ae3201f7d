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
    threading.Thread(target=watch.run, name="watch", daemon=True).start()
    try:
        with watch.added(connection):
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
        self._lock = threading.Lock()
        self._connections = dict[int, Connection]()  # by the number of the server's process
        self._logged = dict[tuple[Any, ...], float]()
        self._stalled, self._stalled_looks = set[tuple[Any, ...]](), 0
        self.is_silent = False
        self.done = threading.Event()

    @contextlib.contextmanager
    def added(self, connection: Connection) -> Iterator[None]:
        """Looks after one more connection until the block ends."""
        pid = connection.info.backend_pid
        with self._lock:
            self._connections[pid] = connection
        try:
            yield
        finally:
            with self._lock:
                del self._connections[pid]

    def run(self) -> None:
        """Looks every few seconds until the work is done, or the server is silent for too long."""
        while not self.done.wait(FIRST_LOOK_SECONDS):
            try:
                self._log_blockers(self._ask("select_blockers"))
                self._check_answers(self._ask("select_quick_sessions"))
            except TimeoutError:
                self.is_silent = not self.done.is_set()
                self._cut_off()
                return
            except psycopg2.Error:
                continue  # no connection to spare, say; should the server be gone, the work itself notices

    def _check_answers(self, quick_sessions: list[tuple[Any, ...]]) -> None:
        """Notices that one process of the server is frozen: this end has waited for long for what should be quick.

        Counts looks, as seconds also pass while this process itself is frozen.

        :raises TimeoutError: after `answer_timeout` seconds.
        """
        with self._lock:
            waiting = {pid for pid, connection in self._connections.items() if _is_waiting(connection)}
        before, self._stalled = self._stalled, {session for session in quick_sessions if session[0] in waiting}
        frozen = sorted(pid for pid, _ in before & self._stalled)
        self._stalled_looks = self._stalled_looks + 1 if frozen else 0
        seconds = self._stalled_looks * FIRST_LOOK_SECONDS
        if frozen and self._is_news(*frozen):
            pids = ", ".join(map(str, frozen))
            logger.warning("%s: has been waiting for the server's process %s for %.0f s", self._work, pids, seconds)
        if seconds >= (self._database.answer_timeout or _NEVER):
            raise TimeoutError

    def _ask(self, name: str) -> list[tuple[Any, ...]]:
        """What a statement says of the sessions, by a connection that never waits for longer than `answer_timeout`."""
        deadline = time.monotonic() + (self._database.answer_timeout or _NEVER)
        with self._lock:
            connections = dict(self._connections)
        if not connections:
            return []
        info = next(iter(connections.values())).info  # where it is: asking for the embedded server again might start it
        place: dict[str, Any] = {**info.dsn_parameters, **({"password": info.password} if info.password else {})}
        with contextlib.closing(psycopg2.connect(async_=True, **place)) as asked:
            _wait(asked, deadline)
            with asked.cursor() as cursor:
                cursor.execute(statement(name), {"sessions": list(connections)})
                _wait(asked, deadline)
                return list(cursor.fetchall())

    def _log_blockers(self, rows: list[tuple[Any, ...]]) -> None:
        for waiting_for, seconds, *blocker in rows:
            pid, application, user, state, since = blocker
            if seconds < FIRST_LOOK_SECONDS or not self._is_news(waiting_for, pid):
                continue
            begun = f" since {_clock(since)}" if since else ""
            logger.warning(
                "%s: has been waiting for %s for %.0f s; it is blocked by pid %s (%s, user %s, %s%s)",
                self._work,
                waiting_for,
                seconds,
                pid,
                application or "no application name",
                user,
                state,
                begun,
            )

    def _is_news(self, *key: Any) -> bool:
        """Whether this was not logged a moment ago; it is taken to be logged now."""
        now = time.monotonic()
        if now - self._logged.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        self._logged[key] = now
        return True

    @property
    def _work(self) -> str:
        return self._what.split(" was ")[0]

    def _cut_off(self) -> None:
        """Makes whatever waits for the server's answer fail at once."""
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)


def _is_waiting(connection: Connection) -> bool:
    """Whether this end waits for the answer to a statement, or for its rows to be taken."""
    active: bool = connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_ACTIVE
    return active


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
