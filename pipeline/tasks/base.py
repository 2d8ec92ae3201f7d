"""What every task of the pipeline has in common: parameters that explain mistakes, readable failures, progress."""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import sys
import time
import traceback
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import luigi

from pipeline.datasets import Release, dataset_named, monthly_names, parse_month
from pipeline.errors import PipelineError, TransientError
from pipeline.progress import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger("luigi-interface")

_REPORT_SECONDS = 1.0
_LOG_SECONDS = 30.0  # where there is no terminal to show a bar on
RUN_ID = uuid.uuid4().hex  # of this process and the workers that it forks


class PipelineTask(luigi.Task):
    """A task whose failure reads as one line in the log, the summary and the UI."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.status_message, self.facts = "", dict[str, Any]()
        # With `force`, what other runs did does not count. Workers fork, and hence agree on the run's name.
        self.run_id = RUN_ID

    def on_failure(self, exception: BaseException) -> dict[str, object]:
        """What the worker is to know of a failure: what to show of it, and whether trying again is of any use."""
        if isinstance(exception, PipelineError):
            return {"error": str(exception), "permanent": not isinstance(exception, TransientError)}
        return {"error": "".join(traceback.format_exception(exception)), "permanent": False}

    def log_status(self, message: str, **facts: object) -> None:
        """Logs what has come of the task, and shows it on the task's page."""
        logger.info(message)
        self.set_status(message, **facts)

    def set_status(self, message: str, **facts: object) -> None:
        """Shows a message on the task's page in the UI; a task that no worker runs has none.

        The facts are for the log and the metrics, such as `rows`, the rows that the task has put in place.
        """
        self.status_message = message
        self.facts |= facts
        if self.set_status_message is not None:
            self.set_status_message(message)

    def set_link(self, url: str) -> None:
        """Links the task's page in the UI to the file it fetches, or the job that does its work."""
        if self.set_tracking_url is not None:
            self.set_tracking_url(url)

    @contextlib.contextmanager
    def progress(self, verb: str, unit: str, afterwards: str) -> Iterator[Progress]:
        """Yields a progress that shows in the UI, and as a bar where standard error is a terminal, else in the log.

        `unit` is "B" for bytes or what is counted, such as "rows"; `afterwards` is what follows when all is counted.
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
                bar.set_postfix_str(afterwards if all_done else "")
            if now - reported >= _REPORT_SECONDS or all_done:
                reported = now
                rate = done / max(now - started, 1e-3)
                self.set_status(
                    f"{verb}: {_amount(done, unit)}, {_amount(rate, unit)}/s" + f"; {afterwards}" * all_done
                )
                if total and self.set_progress_percentage is not None:
                    self.set_progress_percentage(min(100, 100 * done // total))

            if bar is None and now - logged >= _LOG_SECONDS and not all_done:
                logged = now
                whole = f" of {_amount(total, unit)}" if total else ""
                logger.info("%s: %s: %s%s", self, verb, _amount(done, unit), whole)

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


class TaxiParameter(luigi.ChoiceParameter[str]):
    """The name of a dataset that is released a file a month."""

    def __init__(self) -> None:
        super().__init__(choices=monthly_names(), description="which dataset")

    def normalize(self, x: str) -> str:
        names = monthly_names()
        if x not in names:
            raise PipelineError(f"--taxi {x}: no monthly dataset is called that; there are: {', '.join(names)}")
        return x


class ReleaseMonthParameter(luigi.MonthParameter):
    """A month, such as 2019-01."""

    def __init__(self, **options: Any) -> None:
        super().__init__(description="which month, such as 2019-01", **options)

    def parse(self, x: str) -> datetime.date:
        try:
            return parse_month(x)
        except ValueError:
            raise PipelineError(f"--month {x}: not a month such as 2019-01") from None


class ReleaseTask(PipelineTask):
    """A task about one release."""

    @property
    def release(self) -> Release:
        raise NotImplementedError


class TripdataTask(ReleaseTask):
    """A task about a month of trip records."""

    taxi = TaxiParameter()
    month = ReleaseMonthParameter()

    @property
    def release(self) -> Release:
        return Release(dataset_named(self.taxi), self.month)


class ZonesTask(ReleaseTask):
    """A task about the taxi zones."""

    @property
    def release(self) -> Release:
        return Release(dataset_named("zones"))
