"""The processes of runs: starts them, and finds and ends those that this server did not start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

from pipeline.monitoring.run_logs import RunSummary, now

_MAX_OUTPUT_LENGTH = 200_000


@dataclass
class StartedRun:
    """A process that this server started. It outlives the server; the next server finds it by its log."""

    title: str
    arguments: list[str]
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    started: str = field(default_factory=now)
    ended: str = ""
    cancelled: bool = False

    @classmethod
    def start(cls, title: str, arguments: list[str], scheduler_url: str) -> StartedRun:
        """Starts `luigi` with the arguments, in a session of its own."""
        output = tempfile.TemporaryFile()  # noqa: SIM115 (stays open as long as the run)
        environment = {
            **os.environ,
            "PIPELINE__CORE__LOCAL_SCHEDULER": "false",
            "PIPELINE__CORE__SCHEDULER_URL": scheduler_url,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "luigi", "--module", "pipeline", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        return cls(title, arguments, process, output)

    @property
    def id(self) -> str:
        return f"{self.started[:19].replace('-', '').replace(':', '')}-{self.process.pid}"

    @property
    def is_running(self) -> bool:
        if self.process.poll() is None:
            return True
        self.ended = self.ended or now()
        return False

    @property
    def status(self) -> str:
        if self.is_running:
            return "stopping" if self.cancelled else "running"
        if self.cancelled:
            return "cancelled"
        return "done" if self.process.returncode == 0 else "failed"

    def text(self) -> str:
        """Returns the end of the output of the process."""
        descriptor = self.output.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, _MAX_OUTPUT_LENGTH, max(0, size - _MAX_OUTPUT_LENGTH)).decode(errors="replace")

    def cancel(self) -> bool:
        """Ends the run immediately, without leaving partial results. Returns whether it was running."""
        if not self.is_running:
            return False
        self.cancelled = True
        end_run(self.process.pid)
        return True


class Writer(Enum):
    """The process that writes a run's log."""

    RUNS_HERE = "on this machine"
    ENDED = "it has ended"
    UNKNOWN = "it may run on another machine, or as another user"


def writer_of(log: Path, run: RunSummary) -> Writer:
    """Returns where the process that writes a run's log runs.

    The log's name ends in the process id. Because ids are reused and another machine may have the same id, the process
    must also have the log open.
    """
    gone = Writer.ENDED if run.host == socket.gethostname() else Writer.UNKNOWN
    try:
        files = psutil.Process(run.pid).open_files()
    except psutil.NoSuchProcess:
        return gone
    except psutil.Error:
        return Writer.UNKNOWN
    return Writer.RUNS_HERE if any(os.path.realpath(file.path) == os.path.realpath(log) for file in files) else gone


def end_run(pid: int) -> None:
    """Ends a run and its forked workers immediately, but not the embedded server that it may have started."""
    with contextlib.suppress(psutil.Error, OSError):
        group = os.getpgid(pid)
        if group == pid:
            os.killpg(group, signal.SIGTERM)
            return
        process = psutil.Process(pid)
        for member in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error, OSError):
                if os.getpgid(member.pid) == group:
                    member.terminate()
