"""Base classes of all tasks: one-line failures, progress, and the release that a task is for."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
import traceback
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import luigi

from pipeline.datasets import Release, dataset_named
from pipeline.datasets.spec import ZONES
from pipeline.errors import PipelineError, TransientError
from pipeline.parameters import MonthParameter, TaxiParameter
from pipeline.progress import Progress
from pipeline.warehouses import WAREHOUSES

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger("luigi-interface")

_REPORT_SECONDS = 1.0
_LOG_SECONDS = 30.0  # if there is no terminal for a progress bar
WAREHOUSE_CHOICES = {name: [name] for name in WAREHOUSES} | {"both": ["postgres", "bigquery"]}
RUN_ID = uuid.uuid4().hex  # of this process and the workers that it forks


class PipelineTask(luigi.Task):
    """A task whose failure is shown as one line in the log, the summary and the UI."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.status_message, self.facts = "", dict[str, Any]()
        # With `force`, only this run's work counts as complete. Forked workers inherit the id.
        self.run_id = RUN_ID

    def on_failure(self, exception: BaseException) -> dict[str, object]:
        """Returns the error to show, and whether it is permanent, for the worker."""
        if isinstance(exception, PipelineError):
            return {"error": str(exception), "permanent": not isinstance(exception, TransientError)}
        return {"error": "".join(traceback.format_exception(exception)), "permanent": False}

    def log_status(self, message: str, **facts: object) -> None:
        """Logs the task's result and shows it on the task's page."""
        logger.info(message)
        self.set_status(message, **facts)

    def set_status(self, message: str, **facts: object) -> None:
        """Shows a message on the task's page in the UI, if a worker runs the task.

        The facts, such as `rows` for the number of rows written, are added to the log and the metrics.
        """
        self.status_message = message
        self.facts |= facts
        if self.set_status_message is not None:
            self.set_status_message(message)

    def set_link(self, url: str) -> None:
        """Links the task's page in the UI to the file it downloads, or to its job in the warehouse."""
        if self.set_tracking_url is not None:
            self.set_tracking_url(url)

    @contextlib.contextmanager
    def progress(self, verb: str, unit: str, next_step: str) -> Iterator[Progress]:
        """Yields a callback that shows progress in the UI and as a bar, or in the log if there is no terminal.

        `unit` is "B" for bytes, or the things that are counted, such as "rows"; `next_step` is shown after the last.
        """
        bar = self._bar(verb, unit)
        started, reported = time.monotonic(), -math.inf
        logged = started

        def report(done: int, total: int | None) -> None:
            nonlocal reported, logged
            now, all_done = time.monotonic(), done == total
            if bar is not None:
                bar.total = total
                bar.update(done - bar.n)
                bar.set_postfix_str(next_step if all_done else "")
            if now - reported >= _REPORT_SECONDS or all_done:
                reported = now
                rate = done / max(now - started, 1e-3)
                self.set_status(f"{verb}: {_amount(done, unit)}, {_amount(rate, unit)}/s" + f"; {next_step}" * all_done)
                if total and self.set_progress_percentage is not None:
                    self.set_progress_percentage(min(100, 100 * done // total))

            if bar is None and now - logged >= _LOG_SECONDS and not all_done:
                logged = now
                of_total = f" of {_amount(total, unit)}" if total else ""
                logger.info("%s: %s: %s%s", self, verb, _amount(done, unit), of_total)

        try:
            yield report
        finally:
            if bar is not None:
                bar.close()

    def _bar(self, verb: str, unit: str) -> tqdm[NoReturn] | None:
        if not sys.stderr.isatty():
            return None
        from tqdm import tqdm

        return tqdm(desc=f"{verb} {self}", unit=unit, unit_scale=True, dynamic_ncols=True)


def _amount(count: float, unit: str) -> str:
    return f"{count / 1e6:.1f} MB" if unit == "B" else f"{count:,.0f} {unit}"


class ReleaseTask(PipelineTask):
    """A task for one release."""

    @property
    def release(self) -> Release:
        raise NotImplementedError


class TripdataTask(ReleaseTask):
    """A task for a month of trip records."""

    taxi = TaxiParameter()
    month = MonthParameter()

    @property
    def release(self) -> Release:
        return Release(dataset_named(self.taxi), self.month)


class ZonesTask(ReleaseTask):
    """A task for the taxi zones."""

    @property
    def release(self) -> Release:
        return Release(dataset_named(ZONES))
