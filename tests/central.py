"""A `pipeline ui` of a test's own: its address, what it said, what its pages show."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
from conftest import start_command


@dataclass(frozen=True)
class CentralScheduler:
    """One that runs, and has said so."""

    port: int
    settings: dict[str, str]
    process: subprocess.Popen[str]
    said: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def environment(self) -> dict[str, str]:
        """What sends the work of a command there."""
        return {"LUIGI_CONFIG_PATH": "central.cfg", "PIPELINE__CORE__SCHEDULER_URL": self.url}

    def ask(self, method: str, **arguments: Any) -> Any:
        """Asks its API, as its own pages do."""
        answer = requests.get(f"{self.url}api/{method}", {"data": json.dumps(arguments)}, timeout=10)
        answer.raise_for_status()
        return answer.json()["response"]

    def tasks(self, status: str = "") -> dict[str, dict[str, Any]]:
        """The tasks that its pages list, by id."""
        found: dict[str, dict[str, Any]] = self.ask("task_list", status=status, upstream_status="")
        return found


@contextlib.contextmanager
def central_scheduler(settings: dict[str, str], *options: str, port: int | None = None) -> Iterator[CentralScheduler]:
    """One that is up until the block ends, unless it is stopped before."""
    port = port or free_port()
    process = start_command("pipeline", "ui", "--port", str(port), *options, **settings)
    try:
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C stops it"):
                break
        else:
            raise AssertionError("".join(said))
        yield CentralScheduler(port, settings, process, said)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
