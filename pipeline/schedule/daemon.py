"""Runs catch-ups, each in its own `luigi` process, when they are due or were missed, until it is stopped."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import queue
import shlex
import signal
import subprocess
import sys
from types import FrameType

from pipeline.errors import PipelineError
from pipeline.schedule import CatchUp, format_time, read_time, write_time
from pipeline.settings import exit_codes

logger = logging.getLogger("pipeline.schedule")

_NOT_RECORDED = 1  # as of a command that fails
# The clock by which a process waits stands still while the machine sleeps, and does not follow when the time is set. So
# the schedule looks at the time again.
_SECONDS_BETWEEN_LOOKS = 30.0


def run_forever(catch_ups: list[CatchUp], runner: Runner, retry_minutes: float) -> None:
    """Runs until SIGTERM or ctrl-C, then finishes the months that are being loaded; a second signal ends it at once.

    Catch-ups run one at a time. Several missed firings, while the machine slept or this process did not run, cause a
    single catch-up. A failed catch-up is retried after `retry_minutes`.
    """
    due = {catch_up.name: _first_time(catch_up) for catch_up in catch_ups}
    for name, at in due.items():
        logger.info("%s: next at %s", name, format_time(at))
    while not runner.wait_for_stop(min((min(due.values()) - _now()).total_seconds(), _SECONDS_BETWEEN_LOOKS)):
        for catch_up in catch_ups:
            # If the clock was ahead and was set right, an earlier firing is the next one.
            due[catch_up.name] = min(due[catch_up.name], next(catch_up.firings(_now())))
            if due[catch_up.name] <= _now() and not runner.stopping:
                due[catch_up.name] = _run(catch_up, runner, retry_minutes)


def _first_time(catch_up: CatchUp) -> datetime.datetime:
    """Returns when to run it first: now if a firing was missed since the last catch-up, else at the next firing.

    If none has succeeded yet, since the first start of the schedule.
    """
    last, now = read_time(catch_up.last_success) or read_time(catch_up.first_start), _now()
    if last is None:
        write_time(catch_up.first_start, now)
    elif (missed := next(catch_up.firings(last))) < now:
        logger.info("%s: the firing of %s was missed", catch_up.name, format_time(missed))
        return now
    return next(catch_up.firings(now))


def _run(catch_up: CatchUp, runner: Runner, retry_minutes: float) -> datetime.datetime:
    """Runs a catch-up and returns when to run it again."""
    try:
        code = runner.run(catch_up)
    except (PipelineError, OSError) as error:
        logger.error("%s: %s", catch_up.name, error)
        code = _NOT_RECORDED
    now = _now()
    next_time = next(catch_up.firings(now))
    if code in (0, exit_codes().already_running) or retry_minutes <= 0 or runner.stopping:
        return next_time
    next_time = min(next_time, now.astimezone() + datetime.timedelta(minutes=retry_minutes))
    logger.info("%s: trying again at %s", catch_up.name, format_time(next_time))
    return next_time


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Runner:
    """Runs one catch-up at a time until SIGTERM or ctrl-C.

    After the first signal, luigi finishes the months that it is loading and starts no others. A second signal ends it
    immediately, which is safe, too: the next run loads the interrupted months.
    """

    def __init__(self) -> None:
        self._luigi: subprocess.Popen[bytes] | None = None
        self._stops = 0
        self._stop_requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)

    @property
    def stopping(self) -> bool:
        return self._stops > 0

    def wait_for_stop(self, seconds: float) -> bool:
        """Blocks until the first signal to stop, but not longer than `seconds`; returns whether there was one."""
        try:
            self._stop_requests.get(timeout=max(0, seconds))
        except queue.Empty:
            return False
        return True

    def run(self, catch_up: CatchUp) -> int:
        """Returns luigi's exit code, or that of `[retcode]` for a run that is already running or was not run.

        :raises PipelineError: if the lock or the record of success cannot be written.
        """
        if self.stopping:
            return exit_codes().not_run
        started_at = _now()
        with catch_up.locked() as lock:
            if lock is None:
                logger.warning("%s: skipped, as another process is catching up", catch_up.name)
                return exit_codes().already_running
            arguments = catch_up.arguments()
            logger.info("%s: catching up: luigi %s", catch_up.name, shlex.join(arguments))
            command = [sys.executable, "-m", "luigi", *arguments]  # of this interpreter rather than in PATH
            # In its own session, so that only this process receives ctrl-C; it then tells luigi to finish.
            self._luigi = subprocess.Popen(command, pass_fds=[lock.fileno()], start_new_session=True)
            if self.stopping:  # a signal arrived since the check above
                self._forward_stop()
            code = self._luigi.wait()
            code = code if code >= 0 else 128 - code  # the exit code that a shell reports for a signal
            if self.stopping:
                return code or exit_codes().not_run
            if code == 0:
                write_time(catch_up.last_success, started_at)
        logger.log(logging.ERROR if code else logging.INFO, "%s: ended with exit code %d", catch_up.name, code)
        return code

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self._stops += 1
        self._stop_requests.put(None)
        self._forward_stop()

    def _forward_stop(self) -> None:
        if self._luigi is None or self._luigi.poll() is not None:
            return
        if self._stops == 1:
            logger.info("stopping after the months that are being loaded; stop it again to end at once")
            self._luigi.send_signal(signal.SIGUSR1)  # tells a Luigi worker to accept no more tasks
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._luigi.pid, signal.SIGTERM)
