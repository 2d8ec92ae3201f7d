"""The processes of runs that this server has not started, found by the log that each of them keeps open."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil  # type: ignore[import-untyped]


def writer_of(log: Path) -> int | None:
    """The id of the process that writes a run's log; None when it has ended, or cannot be looked at from here.

    The log's name ends in that id. Ids are used again, and another machine has the same ones: only the run itself has
    the log open.
    """
    try:
        process = psutil.Process(int(log.stem.rpartition("-")[2]))
        is_open = any(os.path.realpath(file.path) == os.path.realpath(log) for file in process.open_files())
    except (psutil.Error, ValueError):
        return None
    return int(process.pid) if is_open else None


def end_run(pid: int) -> None:
    """Ends a run at once, with the workers that it has forked; but not the embedded server that it may have started."""
    with contextlib.suppress(psutil.Error, OSError):
        group = os.getpgid(pid)
        if group == pid:
            os.killpg(group, signal.SIGTERM)
            return
        process = psutil.Process(pid)
        for each in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error, OSError):
                if os.getpgid(each.pid) == group:
                    each.terminate()
