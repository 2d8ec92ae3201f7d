"""Starts the real commands as processes that a trial can kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forked import BIN, ForkedProcess

CHECKOUT = Path(__file__).parents[2]
TIMEOUT = 300.0  # seconds after which a command counts as hanging
_EXPLAINED = {0, 1, 10, 20, 25, 30, 35}  # [retcode] in luigi.cfg, without 40: an unexpected error


@dataclass(frozen=True)
class Outcome:
    """The exit code and output of a command; the code is negative if it was killed."""

    code: int
    output: str

    @property
    def is_explained(self) -> bool:
        """Whether it ended by itself, with an exit code that gives the reason, and without a traceback."""
        return self.code in _EXPLAINED and "Traceback (most recent call last)" not in self.output


class Command:
    """A running command in its own process group, with its output in a file."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], folder: Path) -> None:
        """Starts `luigi` or `pipeline` with exactly this environment; its output is written to a file in the folder."""
        number, output = tempfile.mkstemp(dir=folder)
        self._output = Path(output)
        self._process = ForkedProcess(
            [BIN / arguments[0], *arguments[1:]],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=number,
            stderr=number,
            start_new_session=True,
        )
        os.close(number)

    def kill(self) -> None:
        """Kills the command and its children, if they are still running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def outcome(self) -> Outcome:
        """Waits for the command to end and returns its outcome; a command that hangs is killed."""
        hangs = ""
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            hangs = f"the command hung for {TIMEOUT:.0f} s\n"
            self.kill()
        return Outcome(self._process.wait(), hangs + self._output.read_text("utf-8", "replace"))
