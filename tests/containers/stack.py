"""Runs the compose file in a copy of the checkout, with its own project name, image name, ports and passwords."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "containers.md"
PGADMIN = re.findall(r"image: (dpage/\S+)", (CHECKOUT / "docker-compose.yml").read_text())[0]
# Builds use the host's network, so that they can reach whatever the host can reach.
OVERRIDE = """\
services:
  luigid: {{image: {image}, build: {{network: host}}}}
  scheduler: {{image: {image}}}
  pipeline: {{image: {image}}}
"""
WITHOUT_PGADMIN = "  pgadmin: {profiles: [cannot-be-pulled]}\n"


class Stack:
    """Runs the commands of docs/containers.md unchanged; environment variables select this project for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = f"tlc-check-{secrets.token_hex(3)}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIPELINE__")},
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": "docker-compose.yml:override.yml",
        }
        tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
        for name in filter(lambda name: (CHECKOUT / name).exists(), tracked.splitlines()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
        self.has_pgadmin = _is_available(PGADMIN)
        override = OVERRIDE.format(image=self.project) + ("" if self.has_pgadmin else WITHOUT_PGADMIN)
        (folder / "override.yml").write_text(override)
        (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        subprocess.run(["bash", "-e"], input=block, text=True, cwd=folder, check=True)
        self.passwords = re.findall(r"_PASSWORD=(\w+)$", (folder / ".env").read_text(), re.MULTILINE)
        self.ports = {name: _free_port() for name in ("POSTGRES_PORT", "PGADMIN_PORT", "LUIGID_PORT")}
        self.set(**{name: str(port) for name, port in self.ports.items()})
        # The checks write sample releases to this folder.
        (folder / "pipeline.env").write_text("PIPELINE__SOURCE__BASE_URL=/data/mirror\n")

    def set(self, **variables: str) -> None:
        with (self.folder / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in variables.items())

    def run_documented(self, command: str, code: int | None = 0) -> str:
        """Runs a command that the page contains in exactly this form; returns its output."""
        assert f"\n$ {command}\n" in PAGE.read_text(), f"docs/containers.md does not contain: {command}"
        return self._run(["bash", "-c", command], code)

    def compose(self, *arguments: str, code: int | None = 0) -> str:
        """Runs `docker compose` and returns its output. `code` is the expected exit code; None accepts any."""
        return self._run(["docker", "compose", *arguments], code)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts `docker compose` without waiting for its end."""
        command = ["docker", "compose", *arguments]
        output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **output)

    def luigi(self, *arguments: str, code: int | None = 0) -> str:
        return self.compose("run", "--rm", "-T", "pipeline", *arguments, code=code)

    def sql(self, statement: str) -> str:
        """Runs a statement as the owner of the server; returns psql's unaligned output."""
        psql = ("psql", "--username=postgres", "--dbname=taxi", "-v", "ON_ERROR_STOP=1", "-qAtc", statement)
        return self.compose("exec", "-T", "postgres", *psql).strip()

    def publish(self, *months: str) -> None:
        """Writes sample months of green, of 10,000 rows each, to the volume."""
        sample = "python -m pipeline.sample --taxi green --month {} /data/mirror"
        script = " && ".join(sample.format(month) for month in months)
        self.compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "pipeline", "-ec", script)

    def inspect(self, service: str) -> dict[str, Any]:
        container = self.compose("ps", "--quiet", service).strip()
        (found,) = json.loads(self._run(["docker", "inspect", container], 0))
        return dict(found)

    def size_above_base(self) -> int:
        """Returns the size in bytes of the layers that the Dockerfile copies into the image."""
        columns = "{{.Size}} {{.CreatedBy}}"
        history = self._run(["docker", "history", "--human=false", "--no-trunc", "--format", columns, self.project], 0)
        return sum(int(size) for size in re.findall(r"^(\d+) COPY /(?:venv|app) ", history, re.MULTILINE))

    @contextlib.contextmanager
    def ledger_held(self) -> Iterator[None]:
        """Locks the ledger until the block ends: loads proceed up to writing their marker, and wait there."""
        lock = "BEGIN; LOCK TABLE load_ledger IN EXCLUSIVE MODE; SELECT pg_sleep(600)"
        psql = ("psql", "--username=postgres", "--dbname=taxi", "-qc", lock)
        holder = self.start("exec", "-T", "postgres", *psql)
        eventually(
            lambda: self.sql("SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation > 0") != "0"
        )
        try:
            yield
        finally:
            self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'")
            holder.communicate(timeout=60)

    def until_it_waits(self) -> None:
        """Waits until a load waits for the ledger."""
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'load_ledger'::regclass"
        try:
            eventually(lambda: self.sql(waiting) != "0")
        except AssertionError:
            raise AssertionError(self.compose("logs", "--tail", "40", "scheduler")) from None

    def remove(self) -> None:
        """Removes the project's containers, networks, volumes and images, and checks that none are left."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5", code=None)
        label = f"label=com.docker.compose.project={self.project}"
        for image in set(self._run(["docker", "image", "ls", "--quiet", "--filter", label], 0).split()):
            self._run(["docker", "image", "rm", "--force", image], 0)
        for kind in ("container", "network", "volume", "image"):
            assert self._run(["docker", kind, "ls", "--quiet", "--filter", label], 0) == "", kind

    def _run(self, command: list[str], code: int | None) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert code in (None, done.returncode), f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr


@contextlib.contextmanager
def new_stack() -> Iterator[Stack]:
    """Yields a stack whose services are not started yet, and removes it at the end in any case."""
    with tempfile.TemporaryDirectory(prefix="tlc-check-") as folder:
        stack = Stack(Path(folder))
        try:
            yield stack
        finally:
            stack.remove()


def eventually(condition: Callable[[], bool]) -> None:
    """Waits until the condition condition; fails after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _is_available(image: str) -> bool:
    for action in ("inspect", "pull"):
        command = ["docker", "image", action, image]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
