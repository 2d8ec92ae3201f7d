"""Runs catch-ups, each in its own `luigi` process."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import queue
import shlex
import signal
import subprocess
from pathlib import Path
from types import FrameType

from pipeline.schedule.plan import CatchUp
from pipeline.schedule.record import Record

logger = logging.getLogger("pipeline.schedule")

ALREADY_RUNNING = 10  # as in luigi.cfg
_NOT_RUN = 25


class Runner:
    """Runs one catch-up at a time until SIGTERM or ctrl-C.

    After the first signal, luigi finishes the months that it is loading and starts no others. A second signal ends it
    immediately, which is safe, too: the next run loads the interrupted months.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._luigi: subprocess.Popen[bytes] | None = None
        self._stops = 0
        self._stop_requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)

    @property
    def stopping(self) -> bool:
        return self._stops > 0

    def wait_for_stop(self) -> None:
        """Blocks until the first signal to stop."""
        self._stop_requests.get()

    def record(self, catch_up: CatchUp) -> Record:
        return Record(self._folder, catch_up.name)

    def run(self, catch_up: CatchUp) -> int:
        """Returns luigi's exit code, 10 if another process is catching up with the dataset, or 25 if stopped."""
        if self.stopping:
            return _NOT_RUN
        record, started_at = self.record(catch_up), datetime.datetime.now(datetime.UTC)
        with record.locked() as lock:
            if lock is None:
                logger.warning("%s: skipped, as another process is catching up", catch_up.name)
                return ALREADY_RUNNING
            logger.info("%s: catching up: luigi %s", catch_up.name, shlex.join(catch_up.arguments()))
            # In its own session, so that only this process receives ctrl-C; it then tells luigi to finish.
            self._luigi = subprocess.Popen(catch_up.command(), pass_fds=[lock.fileno()], start_new_session=True)
            if self.stopping:  # a signal arrived since the check above
                self._forward_stop()
            code = self._luigi.wait()
            code = code if code >= 0 else 128 - code  # the exit code that a shell reports for a signal
            if self.stopping:
                return code or _NOT_RUN
            if code == 0:
                record.save_success(started_at)
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
