"""Runs commands and measures their time and memory from outside."""

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
    """A command failed or did something other than what is to be measured, so there are no valid figures."""


@dataclass(frozen=True)
class Measurement:
    """One command from its start to its exit. `peak_bytes` is the largest resident size of one of its processes.

    On Linux, the peak includes the memory of the process that starts the command, so it is never below the benchmarks'
    own 50 MB; therefore the benchmarks only import modules that the pipeline imports as well.
    """

    seconds: float
    peak_bytes: int
    output: str


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Measurement:
    """Runs a command in the checkout.

    :raises BenchmarkError: when it fails, with the end of its output.
    """
    # A file instead of a pipe, which would have to be read during the measurement.
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
        # The kernel's figure is the real peak; sampling from outside could miss it.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise BenchmarkError(
            f"exit code {process.returncode} of: {' '.join(map(str, command))}\n{text[-_SHOWN_BYTES:]}"
        )
    return Measurement(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), text)


def run_pipe(first: Sequence[str | Path], second: Sequence[str | Path]) -> float:
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


def installed_command(name: str) -> Path:
    """Returns the path of a command in the environment that the benchmarks run in."""
    return Path(sys.executable).parent / name
