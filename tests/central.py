"""A `pipeline ui` process for one test: its address, its startup message and the tasks on its pages."""

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
    """A running scheduler and its startup message."""

    port: int
    settings: dict[str, str]
    process: subprocess.Popen[str]
    startup_lines: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a command uses this scheduler."""
        return {"LUIGI_CONFIG_PATH": "central.cfg", "PIPELINE__CORE__SCHEDULER_URL": self.url}

    def call_api(self, method: str, **arguments: Any) -> Any:
        """Calls the scheduler's API, as its own pages do."""
        answer = requests.get(f"{self.url}api/{method}", {"data": json.dumps(arguments)}, timeout=10)
        answer.raise_for_status()
        return answer.json()["response"]

    def tasks(self, status: str = "") -> dict[str, dict[str, Any]]:
        """The tasks that its pages list, by task id."""
        found: dict[str, dict[str, Any]] = self.call_api("task_list", status=status, upstream_status="")
        return found


@contextlib.contextmanager
def central_scheduler(settings: dict[str, str], *options: str, port: int | None = None) -> Iterator[CentralScheduler]:
    """Runs a scheduler until the block ends; the test may stop it earlier."""
    port = port or free_port()
    process = start_command("pipeline", "ui", "--port", str(port), *options, **settings)
    try:
        assert process.stdout
        startup_lines = []
        for line in process.stdout:
            startup_lines.append(line)
            if line.startswith("Ctrl-C stops it"):
                break
        else:
            raise AssertionError("".join(startup_lines))
        yield CentralScheduler(port, settings, process, startup_lines)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
