"""A process that has imported what the commands need, and forks one for each that is asked for (see warm.py).

Luigi and the package itself are imported in the fork, so that they read the settings there as in a process of its own.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import pickle
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

_IMPORTED = (
    *("luigi.cmdline", "luigi.tools.range", "psycopg2", "requests", "psutil", "dateutil.relativedelta", "isal.igzip"),
    *("re2", "tqdm", "rich.table", "jinja2", "pyarrow.parquet", "pgpq", "tornado.web", "apscheduler", "sqlalchemy"),
    *("prometheus_client", "dbt.cli.main", "dbt.adapters.postgres", "dbt.adapters.bigquery"),
    *("google.cloud.bigquery", "google.cloud.storage"),
)
_OURS = ("luigi", "pipeline")


def main(descriptor: int) -> None:
    """Serves until the other end is closed."""
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in list(sys.modules):
        if name.partition(".")[0] in _OURS:
            del sys.modules[name]
    logging.root.handlers.clear()  # some library's
    logging.root.setLevel(logging.WARNING)
    subprocess.Popen = ForkingPopen  # type: ignore[misc]
    gc.collect()
    gc.freeze()
    order, descriptors = _serve(socket.socket(fileno=descriptor))
    _become(order, descriptors)


def _serve(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Forks a process for each order, and reports how each ends on a pipe of its own; returns in the forks."""
    statuses: dict[int, int] = {}
    wake, awake = os.pipe()
    os.set_blocking(awake, False)
    signal.set_wakeup_fd(awake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == wake:
                    os.read(wake, 4096)
                    _report(statuses)
                    continue
                message, descriptors = _receive(control)
                if not message:
                    sys.exit()
                if (child := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for left in (wake, awake, *statuses.values(), descriptors.pop()):
                        os.close(left)
                    control.close()
                    selector.close()
                    return json.loads(message), descriptors
                statuses[child] = descriptors.pop()
                for handed_on in descriptors:
                    os.close(handed_on)
                control.send(str(child).encode())


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    message, ancillary, _, _ = control.recvmsg(1 << 20, socket.CMSG_SPACE(64))
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data)
    return message, list(descriptors)


def _report(statuses: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = statuses.pop(ended[0])
            with contextlib.suppress(BrokenPipeError):
                os.write(status, str(ended[1]).encode())
            os.close(status)


def _become(order: dict[str, Any], descriptors: list[int]) -> None:
    for at, descriptor in enumerate(descriptors):
        os.dup2(descriptor, at)
    for descriptor in descriptors:
        if descriptor > 2:
            os.close(descriptor)
    if order["new_session"]:
        os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.argv = order["command"]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120  as Python does
    _run(_ENTRY_POINTS[os.path.basename(sys.argv[0])])  # noqa: PTH119


def _luigi() -> int:
    from luigi.cmdline import luigi_run

    return luigi_run()  # type: ignore[no-any-return,no-untyped-call]


def _pipeline() -> int:
    from pipeline.__main__ import main

    return main()


def _build() -> None:
    """Builds models as standard input says, and says on standard output what came of it."""
    from pipeline.errors import PipelineError
    from pipeline.transform.build import build

    try:
        result: object = build(*pickle.load(sys.stdin.buffer), lambda line: None)
    except PipelineError as error:
        result = error
    pickle.dump(result, sys.stdout.buffer)


_ENTRY_POINTS: dict[str, Callable[[], int | None]] = {"luigi": _luigi, "pipeline": _pipeline, "build": _build}


def _run(entry_point: Callable[[], int | None]) -> NoReturn:
    """Ends like a process does whose script is this, without taking every module apart first."""
    code: object = None
    try:
        code = entry_point()
    except SystemExit as error:
        code = error.code
    except Exception:
        traceback.print_exc()  # and not on into what this is a fork of
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, BrokenPipeError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


class ForkingPopen(subprocess.Popen):  # type: ignore[type-arg]
    """Starts dbt's process as a fork of the one that starts it, which has dbt's modules; all others as ever."""

    def _execute_child(self, args: Any, *more: Any) -> None:
        if not isinstance(args, list) or len(args) < 3 or not str(args[2]).endswith("/dbt_child.py"):
            super()._execute_child(args, *more)  # type: ignore[misc]
            return
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = more[9:15]
        sys.stdout.flush()
        sys.stderr.flush()
        if (child := os.fork()) == 0:
            _become_dbt(args[2:], (p2cread, c2pwrite, errwrite))
        self.pid, self._child_created = child, True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def _become_dbt(arguments: list[str], descriptors: tuple[int, ...]) -> NoReturn:
    gc.freeze()  # what the other process has open must not be closed properly by this one
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    atexit._clear()
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    for at, descriptor in enumerate(descriptors):
        if descriptor != -1:
            os.dup2(descriptor, at)
    os.closerange(3, 1024)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  that of a forked worker of Luigi's is another descriptor
    sys.argv = list(map(str, arguments))
    _run(lambda: runpy.run_path(sys.argv[0], run_name="__main__") and None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
