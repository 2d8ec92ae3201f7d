"""Serves the central scheduler until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import PipelineError


def serve(address: str, port: int, folder: Path, history: str, announce: Callable[[], None]) -> None:
    """Serves until SIGTERM or ctrl-C; calls `announce` once it listens. What it knows is kept in `folder`.

    Retries, disable windows and the like are those of `[scheduler]`, resources those of `[resources]`.

    :raises PipelineError: when the port is taken, the address is not this machine's, or the history cannot be used.
    """
    import luigi.server
    from luigi.metrics import MetricsCollectors
    from luigi.scheduler import Scheduler
    from tornado.ioloop import IOLoop

    from pipeline.ui.history import TaskHistory

    folder.mkdir(parents=True, exist_ok=True)
    scheduler = Scheduler(
        task_history_impl=TaskHistory(history or f"sqlite:///{folder / 'history.sqlite'}"),
        state_path=str(folder / "state.pickle"),
        record_task_history=True,
        metrics_collector=MetricsCollectors.custom,
        metrics_custom_import="pipeline.monitoring.scheduler_metrics.SchedulerMetrics",
    )
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # else it tells of every browser without a favicon
    IOLoop.current().add_callback(announce)
    try:
        luigi.server.run(port, address, scheduler=scheduler)
    except OSError as error:
        raise PipelineError(f"{address}:{port}: {error.strerror}; choose another with --port or --address") from None


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address, or the name.

    :raises PipelineError: when the name means nothing here.
    """
    try:
        found = {info[4][0] for info in socket.getaddrinfo(address or "0.0.0.0", None)}
    except OSError as error:
        raise PipelineError(f"{address}: {error.strerror}; give an address of this machine") from None
    return all(ipaddress.ip_address(one).is_loopback for one in found)
