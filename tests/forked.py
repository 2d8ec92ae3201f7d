"""Python programs as processes of their own, forked from one that has imported what takes them seconds.

Each has a command line, an environment, a folder and files of its own, can be killed, and ends with an exit code. What
is in memory beforehand are libraries alone: Luigi and the pipeline are imported by each, and read its settings as ever.
The Python programs that they start themselves, such as dbt, are forked in the same way.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import inspect
import json
import logging
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

BIN = Path(sys.executable).parent
_PROGRAMS = {str(BIN / name) for name in ("luigi", "pipeline")}
# Those that take longest; neither Luigi nor the pipeline.
_LIBRARIES = (
    *("psycopg2", "requests", "yaml", "tornado.web", "tornado.httpclient", "jinja2", "rich.console", "tqdm", "psutil"),
    *("pyarrow.parquet", "pgpq", "isal.igzip", "re2", "sqlalchemy.orm", "prometheus_client", "smtplib"),
    *("configparser", "logging.config", "tenacity", "psycopg2.extras", "psycopg2.sql", "webbrowser"),
    *("google.cloud.bigquery", "google.cloud.storage"),
    *("dbt.cli.main", "dbt.adapters.postgres", "dbt.adapters.bigquery"),
)
_READ_BY_PYTHON = ("PYTHON", "LANG", "LC_")  # the variables that it reads before it runs a program
_MODULES = "PYTHONPATH"  # of which the one that can be read later
_SHARED = "TESTS_FORK_FROM"


class _Order(NamedTuple):
    """What a process is to be."""

    module: str  # or a file, if it is empty
    arguments: list[str]
    modules_folder: str | None  # where Python looks for modules first
    folder: str
    environment: dict[str, str]
    has_session: bool
    files: list[int]  # their numbers in the process


class ForkedProcess(subprocess.Popen[Any]):
    """A process as Popen starts it; forked, if it is one of Python in the environment of the tests."""

    def _execute_child(self, *given: Any) -> None:
        if not (order := _order(*given)):
            super()._execute_child(*given)  # type: ignore[misc]
            return
        pipes = given[10:16]
        files = [number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        self._origin = socket.socket(socket.AF_UNIX)
        self._origin.connect(_origin().address)
        socket.send_fds(self._origin, [b"\n"], [*files, *order.files[3:]])
        self._origin.sendall(json.dumps(order).encode() + b"\n")
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        self._answers = self._origin.makefile("rb")
        self.pid = int(self._answers.readline())
        self._child_created = True

    def __del__(self, *given: Any) -> None:
        if not hasattr(self, "_origin"):  # otherwise Popen would poll it again later, when its socket is closed
            super().__del__(*given)  # type: ignore[misc]

    def _try_wait(self, options: int) -> tuple[int, int]:
        if not hasattr(self, "_origin"):
            return super()._try_wait(options)  # type: ignore[misc, no-any-return]
        if options and not select.select([self._origin], [], [], 0)[0]:
            return 0, 0
        return self.pid, int(self._answers.readline())

    def _internal_poll(self, *given: Any, **more: Any) -> int | None:
        if not hasattr(self, "_origin"):
            return super()._internal_poll(*given, **more)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def _order(*given: Any) -> _Order | None:
    """What Popen is given as an order, if it can be."""
    args, executable, preexec_fn, _, pass_fds, cwd, env, _, _, shell, *more = given
    _, gid, gids, uid, umask, has_session, *_ = more[6:]
    environment = dict(os.environ if env is None else env)
    if shell or isinstance(args, str | bytes) or (executable, preexec_fn, gid, gids, uid, umask) != (*[None] * 5, -1):
        return None
    folder, words = str(cwd or Path.cwd()), [str(word) for word in args]
    if words[0] in _PROGRAMS:
        program = ("", words, str(BIN))
    elif words[:2] == [sys.executable, "-m"]:
        program = (words[2], words[2:], folder)
    elif words[:2] == [sys.executable, "-P"]:
        program = ("", words[2:], None)
    elif words[0] == sys.executable and words[1].endswith(".py"):
        program = ("", words[1:], str(Path(words[1]).parent))
    else:
        return None
    customized = any(Path(place, "sitecustomize.py").exists() for place in _places(environment))
    if customized or _read_by_python(environment) != _origin().read_by_python:
        return None
    return _Order(*program, folder, environment, has_session, [0, 1, 2, *pass_fds])


def _read_by_python(environment: Mapping[str, str]) -> dict[str, str]:
    names = {name for name in environment if name.startswith(_READ_BY_PYTHON)} - {_MODULES}
    return {name: environment[name] for name in sorted(names)}


def _places(environment: Mapping[str, str]) -> list[str]:
    """Where Python looks for modules before it looks where libraries are."""
    return [place for place in environment.get(_MODULES, "").split(os.pathsep) if place]


class _Origin(NamedTuple):
    """What processes are forked from: the socket where it takes orders, and the variables that Python read there."""

    address: str
    read_by_python: dict[str, str]


@functools.cache
def _origin() -> _Origin:
    if given := os.environ.get(_SHARED):
        return _Origin(*json.loads(given))
    return _start_origin()


def share_origin() -> None:
    """Starts what processes are forked from for this process and those that it starts. It ends with this process."""
    os.environ[_SHARED] = json.dumps(_start_origin())


def _start_origin() -> _Origin:
    folder = tempfile.TemporaryDirectory(prefix="pipeline-test-")
    atexit.register(folder.cleanup)
    origin = _Origin(f"{folder.name}/socket", _read_by_python(os.environ))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(origin.address)
        listening.listen(64)
        process = subprocess.Popen(
            [sys.executable, __file__, str(listening.fileno()), origin.address, json.dumps(origin.read_by_python)],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={name: value for name, value in os.environ.items() if name != _MODULES},
        )
    atexit.register(process.kill)
    return origin


def main(listening: socket.socket, origin: _Origin) -> None:
    """Forks processes until standard input is closed, and returns; or is one of them."""
    global _origin
    for name in _LIBRARIES:
        importlib.import_module(name)
    inspect.getmodule(sys._getframe())  # dbt calls it; the first call reads the paths of all modules
    logging.root.handlers.clear()  # a library of dbt's adds one
    gc.freeze()
    if order := _next_order(listening):
        if not order.has_session:  # to which its own processes belong as well
            _origin = functools.cache(lambda: origin)
            subprocess.Popen = ForkedProcess  # type: ignore[misc]
        _become(order)


def _next_order(listening: socket.socket) -> _Order | None:
    """Forks a process for each order, in which it returns; another one waits for it and says how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if os.fork():
            connection.close()
            continue
        listening.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, files, _, _ = socket.recv_fds(connection, 1, 16)
        order = _Order(*json.loads(connection.makefile("rb").readline()))
        if child := os.fork():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for file in files:
                os.close(file)
            with contextlib.suppress(BrokenPipeError):  # who gave the order was killed
                connection.sendall(f"{child}\n".encode())
                connection.sendall(f"{os.waitpid(child, 0)[1]}\n".encode())
            os._exit(0)
        connection.close()
        _take(files, order.files)
        return order
    return None


def _take(files: list[int], numbers: list[int]) -> None:
    """Gives files their numbers, and closes all others."""
    apart = [fcntl.fcntl(file, fcntl.F_DUPFD, max(numbers) + 1) for file in files]
    for file, number in zip(apart, numbers, strict=True):
        os.dup2(file, number)
    for file in {int(path.name) for path in Path("/dev/fd").iterdir()} - set(numbers):
        with contextlib.suppress(OSError):  # that of the listing itself
            os.close(file)


def _become(order: _Order) -> None:
    """Runs the program as Python does, to its end."""
    if order.has_session:
        os.setsid()
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    sys.argv = order.arguments
    sys.path[:1] = [*([order.modules_folder] if order.modules_folder else []), *_places(order.environment)]
    code: object = 0
    try:
        if order.module:
            runpy.run_module(order.module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(order.arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    # As Python ends, but without taking down what was in memory beforehand.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), _Origin(sys.argv[2], json.loads(sys.argv[3])))
