"""The web page, its API, and Luigi's central scheduler with Luigi's own pages, served on one port."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import luigi.server
import sqlalchemy
import sqlalchemy.orm
import tornado.httpserver
import tornado.netutil
import tornado.web
from luigi.metrics import MetricsCollectors
from luigi.scheduler import Scheduler
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop, PeriodicCallback

from pipeline.errors import PipelineError
from pipeline.files import storage_errors
from pipeline.settings import UiSettings
from pipeline.ui.guard import Guard, new_guard
from pipeline.ui.pages import SchedulerApi, page_handlers
from pipeline.ui.runs import Runs
from pipeline.ui.state import State

with warnings.catch_warnings():
    warnings.simplefilter("ignore", sqlalchemy.exc.SADeprecationWarning)
    from luigi.db_task_history import Base, DbTaskHistory

logger = logging.getLogger(__name__)

_MINUTE = 60_000  # in milliseconds


class Application(tornado.web.Application):
    """The handlers of the page, then Luigi's. The guard checks every request first."""

    def __init__(self, scheduler: Scheduler, state: State, guard: Guard) -> None:
        self._guard = guard
        handlers = [
            *page_handlers(state, guard, scheduler),
            (r"/api/(.*)", SchedulerApi, {"scheduler": scheduler}),
            (r".*", tornado.web.FallbackHandler, {"fallback": luigi.server.app(scheduler)}),
        ]
        super().__init__(handlers, compress_response=True)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        if refusal := self._guard.refusal(request):
            return self.get_handler_delegate(request, Refusal, {"reason": refusal})
        return super().find_handler(request, **kwargs)


class Refusal(tornado.web.RequestHandler):
    """The response to a request that the guard rejects."""

    def initialize(self, reason: str) -> None:
        self._refusal = reason

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._refusal + "\n")


def serve(address: str, port: int, exposed: bool, settings: UiSettings, on_listening: Callable[[], None]) -> None:
    """Serves until SIGTERM or ctrl-C; calls `on_listening` once it listens.

    `exposed` says whether other machines can reach the address. The scheduler uses the settings of `[scheduler]` and
    `[resources]`, as luigid does.

    :raises PipelineError: if the port is in use, or if the address or the history cannot be used.
    """
    with storage_errors(settings.folder()):
        scheduler = _load_scheduler(settings)
        guard = new_guard(address, exposed, settings.host_names(), settings.folder())
    # Suppresses a warning for each browser that requests a favicon.
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    state = State(Runs(f"http://{_local_address(address)}:{port}/"))
    server = tornado.httpserver.HTTPServer(Application(scheduler, state, guard), max_body_size=50_000_000)
    try:
        server.add_sockets(tornado.netutil.bind_sockets(port, address=address))
    except OSError as error:
        raise PipelineError(f"{address}:{port}: {error.strerror}; choose another with --port or --address") from None
    loop = IOLoop.current()
    PeriodicCallback(scheduler.prune, _MINUTE).start()
    PeriodicCallback(guard.save_token, _MINUTE).start()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(name, lambda *_: loop.add_callback_from_signal(loop.stop))
    loop.add_callback(on_listening)
    try:
        loop.start()
    finally:
        settings.folder().mkdir(parents=True, exist_ok=True)
        scheduler.dump()


def _load_scheduler(settings: UiSettings) -> Scheduler:
    folder = settings.folder()
    scheduler = Scheduler(
        task_history_impl=TaskHistory(settings.history or f"sqlite:///{folder / 'history.sqlite'}"),
        state_path=str(folder / "state.pickle"),
        record_task_history=True,
        metrics_collector=MetricsCollectors.custom,
        metrics_custom_import="pipeline.monitoring.scheduler_metrics.SchedulerMetrics",
    )
    scheduler.load()
    return scheduler


class TaskHistory(DbTaskHistory):
    """Records the start and end of every task in the tables of Luigi's own class, which Luigi's pages read.

    Replaces Luigi's constructor, which migrates tables of Luigi 2 with statements that SQLAlchemy 2 rejects. Begins
    another file if its own is removed, as with the storage root.

    :raises PipelineError: if the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._file: Path | None = None
        try:
            parsed = _with_psycopg2(url)
            self.engine = sqlalchemy.create_engine(parsed, pool_pre_ping=True)
            is_file = parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:")
            self._file = Path(str(parsed.database)) if is_file else None
            self._create_tables()
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            where, remedy = "[ui] history", "give a SQLAlchemy URL, or none for a file"
            if self._file:
                where = str(self._file)
                remedy = "free some space if the disk is full, delete it if it is damaged, or check [ui] history"
            raise PipelineError(f"{where}: {_reason(error)}; {remedy}") from None
        self.session_factory = sqlalchemy.orm.sessionmaker(bind=self.engine, expire_on_commit=False)
        self.tasks: dict[str, Any] = {}

    def _create_tables(self) -> None:
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        Base.metadata.create_all(self.engine)

    @contextlib.contextmanager
    def _session(self, session: Any = None) -> Iterator[Any]:
        if self._file and not self._file.exists():
            self.engine.dispose()  # its connections are those of the removed file
            self._create_tables()
            for task in self.tasks.values():
                task.record_id = None  # was a row of the removed file
        with super()._session(session) as found:
            yield found

    def _add_task_event(self, task: Any, event: Any) -> None:
        """Records an event, or logs in one line that it cannot, for example because the disk is full."""
        try:
            super()._add_task_event(task, event)  # type: ignore[no-untyped-call]
        except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            logger.warning("[ui] history: %s cannot be recorded: %s", task.task_family, _reason(error))


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]


def _with_psycopg2(url: str) -> sqlalchemy.URL:
    parsed = sqlalchemy.make_url(url)
    return parsed.set(drivername="postgresql+psycopg2") if parsed.drivername == "postgresql" else parsed


def is_loopback(address: str) -> bool:
    """Returns whether the address or host name is reachable from this machine only.

    :raises PipelineError: if the name cannot be resolved.
    """
    try:
        found = {info[4][0] for info in socket.getaddrinfo(address or "0.0.0.0", None)}
    except OSError as error:
        raise PipelineError(f"{address}: {error.strerror}; give an address of this machine") from None
    return all(ipaddress.ip_address(one).is_loopback for one in found)


def _local_address(address: str) -> str:
    """Returns the address at which runs on this machine reach the server, as it appears in a URL."""
    if address in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{address}]" if ":" in address else address
