"""Starts `luigi` and `pipeline` as forks of a process that has imported what they need: real processes, without the
second that each would spend on imports. Who tests how Python itself starts does not use this."""

from __future__ import annotations

import functools
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
_FORKED = {BIN / name for name in ("luigi", "pipeline", "build")}
# Read by Python or the C library before the first line of a program runs.
_FOR_PYTHON_ITSELF = ("PYTHON", "LC_", "LANG", "LD_")
_lock = threading.Lock()


@functools.cache
def _server() -> socket.socket:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = Path(__file__).with_name("warm_server.py")
    with its:
        subprocess.Popen(
            [sys.executable, program, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return ours  # the server ends when this process does, which closes it


def popen(command: list[Any], *, env: dict[str, str], **options: Any) -> subprocess.Popen[Any]:
    """`subprocess.Popen`, of a fork where that makes no difference to the command."""
    if command[0] in _FORKED and _for_python(env) == _for_python(dict(os.environ)):
        return ForkedProcess(command, env=env, **options)
    return subprocess.Popen(command, env=env, **options)


def run(command: list[Any], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` by `popen`, with what the command writes captured."""
    with popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def build(*arguments: Any) -> Any:
    """Calls `pipeline.transform.build.build` in a process of its own, whose dbt need not be imported first."""
    with popen([BIN / "build"], env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(pickle.dumps(arguments), timeout=120)
    result = pickle.loads(output)
    if isinstance(result, Exception):
        raise result
    return result


def _for_python(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_FOR_PYTHON_ITSELF)}


class ForkedProcess(subprocess.Popen[Any]):
    """A child of the warm server, which says how it ended."""

    def _execute_child(self, args: Any, *more: Any) -> None:
        cwd, env = more[4], more[5]
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = more[9:15]
        self._status, status = os.pipe()
        streams = [at if given == -1 else given for at, given in enumerate((p2cread, c2pwrite, errwrite))]
        order = {
            "command": list(map(str, args)),
            "folder": str(cwd or Path.cwd()),
            "environment": env,
            "new_session": more[20],
        }
        with _lock:
            socket.send_fds(_server(), [json.dumps(order).encode()], [*streams, status])
            self.pid = int(_server().recv(64))
        os.close(status)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        os.set_blocking(self._status, not wait_flags & os.WNOHANG)
        try:
            text = os.read(self._status, 64)
        except BlockingIOError:
            return 0, 0
        os.close(self._status)
        return self.pid, int(text or b"9")

    def _internal_poll(self, _deadstate: int | None = None, *_: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode
