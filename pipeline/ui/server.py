"""Serves the page, its API, and Luigi's central scheduler with Luigi's own pages, all on one port."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi.server
import tornado.httpserver
import tornado.netutil
import tornado.web
from luigi.metrics import MetricsCollectors
from luigi.scheduler import Scheduler
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop, PeriodicCallback

from pipeline.errors import PipelineError
from pipeline.ui.guard import Guard, new_guard
from pipeline.ui.history import TaskHistory
from pipeline.ui.pages import SchedulerApi, page_handlers
from pipeline.ui.runs import Runs
from pipeline.ui.state import State

_PRUNE_MILLISECONDS = 60_000


class Application(tornado.web.Application):
    """Our handlers, then Luigi's; every request passes the guard first."""

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
    """The answer to a request that does not pass the guard."""

    def initialize(self, reason: str) -> None:
        self._refusal = reason

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._refusal + "\n")


def serve(address: str, port: int, folder: Path, history: str, hosts: list[str], announce: Callable[[], None]) -> None:
    """Serves until SIGTERM or ctrl-C; calls `announce` once it listens. What the scheduler knows is kept in `folder`.

    Retries, disable windows and the like are those of `[scheduler]`, resources those of `[resources]`. `hosts` are
    names of this server besides those that are known.

    :raises PipelineError: when the port is taken, the address is not this machine's, or the history cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scheduler = Scheduler(
        task_history_impl=TaskHistory(history or f"sqlite:///{folder / 'history.sqlite'}"),
        state_path=str(folder / "state.pickle"),
        record_task_history=True,
        metrics_collector=MetricsCollectors.custom,
        metrics_custom_import="pipeline.monitoring.scheduler_metrics.SchedulerMetrics",
    )
    scheduler.load()
    # Otherwise it warns of every browser that asks for a favicon.
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    guard = new_guard(address, not is_loopback(address), hosts, folder)
    state = State(Runs(f"http://{_reachable(address)}:{port}/"))
    server = tornado.httpserver.HTTPServer(Application(scheduler, state, guard), max_body_size=50_000_000)
    try:
        server.add_sockets(tornado.netutil.bind_sockets(port, address=address))
    except OSError as error:
        raise PipelineError(f"{address}:{port}: {error.strerror}; choose another with --port or --address") from None
    loop = IOLoop.current()
    PeriodicCallback(scheduler.prune, _PRUNE_MILLISECONDS).start()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(name, lambda *_: loop.add_callback_from_signal(loop.stop))
    loop.add_callback(announce)
    try:
        loop.start()
    finally:
        scheduler.dump()


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address, or the name.

    :raises PipelineError: when the name means nothing here.
    """
    try:
        found = {info[4][0] for info in socket.getaddrinfo(address or "0.0.0.0", None)}
    except OSError as error:
        raise PipelineError(f"{address}: {error.strerror}; give an address of this machine") from None
    return all(ipaddress.ip_address(one).is_loopback for one in found)


def _reachable(address: str) -> str:
    """Where this machine's own runs reach the server."""
    if address in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{address}]" if ":" in address else address
