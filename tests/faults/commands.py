"""The real commands as processes to be killed, forked from one that has their libraries at hand.

Google's libraries take seconds to import, and a campaign starts thousands of commands. What is in memory beforehand are
libraries alone: Luigi and the pipeline read the settings of each command as ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).parents[2]
TIMEOUT = 300.0  # seconds after which a command counts as hanging
_EXPLAINED = {0, 1, 10, 20, 25, 30, 35}  # [retcode] in luigi.cfg, but for 40, an error that nobody foresaw


@dataclass(frozen=True)
class Outcome:
    """What a command did; the code is negative where it was killed."""

    code: int
    output: str

    @property
    def is_explained(self) -> bool:
        """Whether it ended by itself, with an exit code that says why, and without a traceback."""
        return self.code in _EXPLAINED and "Traceback (most recent call last)" not in self.output


@dataclass(frozen=True)
class Command:
    """A command that was started, in a process group of its own."""

    pid: int
    folder: Path

    def kill(self) -> None:
        """Kills it and its children, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def outcome(self) -> Outcome:
        """What it did, once it has ended; one that hangs is killed."""
        deadline, hangs = time.monotonic() + TIMEOUT, ""
        while not (self.folder / "code").exists():
            if time.monotonic() > deadline and not hangs:
                hangs = f"it hung for {TIMEOUT:.0f} s\n"
                self.kill()
            time.sleep(0.02)
        return Outcome(
            int((self.folder / "code").read_text()), hangs + (self.folder / "output").read_text("utf-8", "replace")
        )


class Commands:
    """Starts `luigi` and `pipeline`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def start(self, *arguments: str, environment: Mapping[str, str]) -> Command:
        """Starts one with this environment and no other."""
        assert self._process.stdin and self._process.stdout
        folder = tempfile.mkdtemp(dir=self._folder)
        print(json.dumps([folder, arguments, dict(environment)]), file=self._process.stdin, flush=True)
        return Command(int(self._process.stdout.readline()), Path(folder))


@contextlib.contextmanager
def commands(folder: Path) -> Iterator[Commands]:
    """Commands whose output is kept below a folder, until the block ends."""
    fork = [sys.executable, "-c", "from faults.commands import main; main()"]
    with subprocess.Popen(fork, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Commands(process, folder)
        finally:
            process.kill()


def main() -> None:
    """Forks a process for each line of standard input, and another one that notes how it ended."""
    import yaml  # noqa: F401

    lines = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115  children have it, too
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while line := lines.readline():
        folder, arguments, environment = json.loads(line)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if child := os.fork():
            print(child, flush=True)
            _, status = os.waitpid(child, 0)
            Path(folder, "ending").write_text(str(os.waitstatus_to_exitcode(status)))
            Path(folder, "ending").rename(Path(folder, "code"))
            os._exit(0)
        os.setsid()
        _become(Path(folder), arguments, environment)


def _become(folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """Runs a command's own script, as if it had just been started."""
    os.chdir(CHECKOUT)
    os.environ.clear()
    os.environ.update(environment)
    output, nothing = (
        os.open(folder / "output", os.O_CREAT | os.O_WRONLY | os.O_APPEND),
        os.open(os.devnull, os.O_RDONLY),
    )
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.argv = [str(BIN / arguments[0]), *arguments[1:]]
    sys.path[0] = str(BIN)
    sys.path[:] = [place for place in sys.path if place != environment.get("PYTHONPATH")]
    runpy.run_path(sys.argv[0], run_name="__main__")
