"""Runs commands to their end and measures them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
_SHOWN_BYTES = 4000


class BenchmarkError(Exception):
    """A contestant failed or did something else than what is measured; its figures would mean nothing."""


@dataclass(frozen=True)
class Measured:
    """One command from its start to its exit. `peak_bytes` is the largest resident size of one of its processes.

    Linux counts in what the starting process had at the time, so no peak is below the benchmarks' own 50 MB or so:
    they keep to modules that the pipeline imports as well.
    """

    seconds: float
    peak_bytes: int
    output: str


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Measured:
    """Runs a command in the checkout.

    :raises BenchmarkError: when it fails, with the end of what it said.
    """
    # A file, not a pipe: nobody has to read while the clock runs.
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        # The kernel's own account of the peak, which sampling from outside would miss.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise BenchmarkError(
            f"exit code {process.returncode} of: {' '.join(map(str, command))}\n{text[-_SHOWN_BYTES:]}"
        )
    return Measured(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), text)


def run_piped(first: Sequence[str | Path], second: Sequence[str | Path]) -> float:
    """Runs `first | second`; returns the seconds until both have ended.

    :raises BenchmarkError: when either fails.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        source = subprocess.Popen(first, stdout=subprocess.PIPE, stderr=errors)
        sink = subprocess.Popen(second, stdin=source.stdout, stdout=subprocess.DEVNULL, stderr=errors)
        assert source.stdout is not None
        source.stdout.close()  # so that a failing reader ends the writer
        codes = (sink.wait(), source.wait())
        seconds = time.perf_counter() - started
        errors.seek(0)
        if any(codes):
            raise BenchmarkError(f"exit codes {codes}: {errors.read().decode(errors='replace')[-_SHOWN_BYTES:]}")
    return seconds


def installed(name: str) -> Path:
    """A command of the environment that the benchmarks run in."""
    return Path(sys.executable).parent / name
