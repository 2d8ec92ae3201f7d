"""Catching up: every month that is published and not yet done, and no complaint about those that are to come."""

from __future__ import annotations

import contextlib
import datetime
import logging
from typing import Any

import luigi
from luigi.tools.range import RangeMonthly

from pipeline.datasets import Dataset, Release, dataset_named, format_month, parse_month
from pipeline.errors import PipelineError
from pipeline.extract.availability import Edition, find_edition, published_months
from pipeline.extract.editions import NewEditions
from pipeline.settings import ScheduleSettings, SourceSettings
from pipeline.warehouses import WAREHOUSES, warehouse_named
from pipeline.warehouses.ledger import ADOPTED, LedgerEntry

_LOOKED_AT_AGAIN = 3  # of the months that are loaded, the last ones: those are what has been published again

# Triggered with the task of a loaded month and what there is to say, once for each edition.
REPUBLISHED = "event.pipeline.republished"

logger = logging.getLogger("luigi-interface")


class CatchUpMonthly(RangeMonthly):
    """RangeMonthly that leaves out what the source does not have: a warning if later months are there.

    It looks at the last loaded months again. Those that were published anew since are a warning, an alert and in
    `pipeline status`, and are loaded anew with `[schedule] reload = always`.

    :raises PipelineError: when the source has none of the months, or cannot be asked.
    """

    # Not Luigi's defaults, which leave old months out in silence.
    months_back = luigi.IntParameter(default=1200, description="how many months before now to look at, at most")
    task_limit = luigi.IntParameter(default=1200, description="how many months to require, at most")
    param_name: str = luigi.Parameter(  # type: ignore[assignment]
        default="month", positional=False, description="which parameter takes the month"
    )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._required: list[luigi.Task] | None = None
        self._to_reload: list[datetime.date] = []

    def missing_datetimes(self, finite_datetimes: list[datetime.datetime]) -> list[datetime.datetime]:
        """The months that are published and not complete."""
        settings = SourceSettings()
        missing = [moment.date() for moment in super().missing_datetimes(finite_datetimes)]
        releases = [Release(self._dataset, month) for month in missing]
        published = published_months(releases, settings.locations, settings.http_options())
        there = {moment.date() for moment in finite_datetimes} - set(missing) | set(published)
        if finite_datetimes and not there:
            raise PipelineError(
                f"none of the months {_spelled(missing)} of {self._dataset.name} is at the source;"
                " check --source-base-url"
            )
        absent = [month for month in missing if month not in there]
        self._log_absent(
            [month for month in absent if month < max(there)], [month for month in absent if month > max(there)]
        )
        self._log_republished([moment.date() for moment in finite_datetimes if moment.date() not in missing])
        return [datetime.datetime.combine(month, datetime.time()) for month in published]

    def requires(self) -> list[luigi.Task]:
        """The missing months that are published, and the months to load anew."""
        if self._required is None:
            missing: list[luigi.Task] = super().requires()
            self._required = [*missing, *(self._forced(month) for month in self._to_reload)]
        return self._required

    def _log_republished(self, complete: list[datetime.date]) -> None:
        seen = self._look_again(complete)
        news = NewEditions(ScheduleSettings().folder()).record(seen)
        found = sorted({key for (key, _), edition in seen.items() if edition})
        months = [parse_month(key.partition("/")[2]) for key in found]
        reloads = ScheduleSettings().reload == "always" and "force" in dict(self.of_cls.get_params())
        what = "it is loaded anew" if reloads else "load it anew with --force, or set [schedule] reload = always"
        for key, month in zip(found, months, strict=True):
            message = f"{Release(self._dataset, month)} was published again since it was loaded; {what}"
            logger.warning(message)
            if key in {key for key, _ in news}:
                task = self.of_cls(**self._task_parameters(month))
                task.trigger_event(REPUBLISHED, task, message)
        self._to_reload = months if reloads else []

    def _forced(self, month: datetime.date) -> luigi.Task:
        return self.of_cls(**{**self._task_parameters(month), "force": True})

    @property
    def _dataset(self) -> Dataset:
        if "taxi" not in self.of_params:
            raise PipelineError("""--of-params must name the dataset, such as '{"taxi":"green"}'""")
        return dataset_named(self.of_params["taxi"])

    def _look_again(self, months: list[datetime.date]) -> dict[tuple[str, str], Edition | None]:
        """By key and source of the last loaded months: the edition at the source where that is another one by now."""
        seen: dict[tuple[str, str], Edition | None] = {}
        for warehouse in self._warehouses():
            ledger = [entry for entry in warehouse_named(warehouse).loaded() if entry.source not in ("", ADOPTED)]
            loaded = {entry.partition_key: entry for entry in ledger}
            releases = [Release(self._dataset, month) for month in sorted(months)]
            for release in [each for each in releases if each.key in loaded][-_LOOKED_AT_AGAIN:]:
                entry = loaded[release.key]
                with contextlib.suppress(_Unknown):
                    seen[release.key, entry.source] = seen.get((release.key, entry.source)) or _new_edition(
                        release, entry
                    )
        return seen

    def _warehouses(self) -> list[str]:
        """Those that the task of each month loads."""
        name = getattr(self.of_cls, "warehouse_name", None) or self.of_params.get("warehouse")
        return list(WAREHOUSES) if name == "both" else [name] if name in WAREHOUSES else []

    def _log_absent(self, holes: list[datetime.date], to_come: list[datetime.date]) -> None:
        if holes:
            logger.warning("%s: the source lacks %s, though it has later months", self._dataset.name, _spelled(holes))
        if to_come:
            logger.info("%s: not published yet: %s", self._dataset.name, _spelled(to_come))


class _Unknown(Exception):
    """The source cannot be asked."""


def _new_edition(release: Release, entry: LedgerEntry) -> Edition | None:
    settings = SourceSettings()
    try:
        location = settings.locations(release, entry.source)[0]
        edition = find_edition(release, location, settings.http_options())
    except PipelineError as error:  # which is no reason not to load other months
        logger.warning("%s: not known whether it was published again: %s", release, error)
        raise _Unknown from error
    return edition if edition and entry.is_superseded_by(edition) else None


def _spelled(months: list[datetime.date]) -> str:
    names = [format_month(month) for month in months]
    return ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]} ({len(names)} months)"
