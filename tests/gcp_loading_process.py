"""Processes of their own that load or forget January on the emulators, to be killed: forked from one that is warm, as
Google's libraries take a second to import."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import CHECKOUT
from gcp import GoogleCloud

from pipeline.warehouses.bigquery.client import GoogleProject


class Forge:
    """Makes processes, one at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._made = 0

    def start(self, action: str, cloud: GoogleCloud, file: Path = Path()) -> int:
        """Makes a process that waits for `go`; returns its id. The actions are "forget", and "load" a file of lines."""
        if self._made:  # of a test that failed before it let it go
            os.kill(self._made, signal.SIGKILL)
            self.go()
        self._made = self._ask(action, cloud.place.project, cloud.place.bucket, file)
        return self._made

    def go(self) -> int:
        """Lets the process work; returns its exit status when it has ended, negative when it was killed."""
        self._made = 0
        return self._ask("go")

    def _ask(self, *words: object) -> int:
        assert self._process.stdin and self._process.stdout
        print(*words, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def forge(environment: dict[str, str]) -> Iterator[Forge]:
    """A source of processes, until the block ends; the environment sends them to the emulators."""
    command: dict[str, Any] = {"args": [sys.executable, __file__], "cwd": CHECKOUT, "text": True}
    command |= {"env": os.environ | environment | {"NO_PROXY": "127.0.0.1"}}
    with subprocess.Popen(**command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Forge(process)
        finally:
            process.kill()


def main() -> None:
    import gcp_trips
    import google.cloud.bigquery
    import google.cloud.storage  # noqa: F401

    lines = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  children read it, too
    while line := lines.readline().decode():
        action, project, bucket, file = line.split()
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        print(os.getpid(), flush=True)
        lines.readline()
        cloud = GoogleCloud(None, GoogleProject(project, "US", bucket, "tlc", 0))
        if action == "forget":
            gcp_trips.forget_month(cloud)
        else:
            gcp_trips.load_lines(cloud, Path(file).read_bytes().splitlines(), Path(file).parent)
        os._exit(0)


if __name__ == "__main__":
    main()
