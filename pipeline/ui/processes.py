"""Finds and ends the processes of runs that this server did not start."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil  # type: ignore[import-untyped]


def writer_of(log: Path) -> int | None:
    """Returns the id of the process that writes a run's log, or None if it has ended or cannot be inspected.

    The log's name ends in the process id. Because ids are reused and another machine may have the same id, the process
    must also have the log open.
    """
    try:
        process = psutil.Process(int(log.stem.rpartition("-")[2]))
        is_open = any(os.path.realpath(file.path) == os.path.realpath(log) for file in process.open_files())
    except (psutil.Error, ValueError):
        return None
    return int(process.pid) if is_open else None


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
