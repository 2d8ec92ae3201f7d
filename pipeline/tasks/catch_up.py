"""Catching up: runs a task for every month that is published and not complete, and ignores unpublished months."""

from __future__ import annotations

import datetime
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import luigi
from luigi.tools.range import RangeMonthly

from pipeline.datasets import Dataset, Release, dataset_named, format_month
from pipeline.errors import PipelineError
from pipeline.extract import ExtractedFile, extracted_file
from pipeline.extract.availability import Edition, NewEditions, find_edition, published_months
from pipeline.extract.locations import Location
from pipeline.settings import ScheduleSettings, SourceSettings, StorageSettings
from pipeline.tasks.base import WAREHOUSE_CHOICES
from pipeline.warehouses import warehouse_named
from pipeline.warehouses.ledger import ADOPTED, LedgerEntry

_RECHECKED_MONTHS = 3  # the last loaded months, which are the ones that are published again

# Event with the task of a loaded month and a message; triggered once for each new edition.
REPUBLISHED = "event.pipeline.republished"

logger = logging.getLogger("luigi-interface")


class CatchUpMonthly(RangeMonthly):
    """RangeMonthly that skips months that the source does not have, with a warning if it has later months.

    It also checks the last loaded months for new editions. These cause a warning and an alert, are shown by
    `pipeline status`, and are loaded again with `[schedule] reload = always`.

    :raises PipelineError: if the source has none of the months or does not answer.
    """

    # Luigi's defaults silently skip old months.
    months_back = luigi.IntParameter(default=1200, description="maximum number of months before now to check")
    task_limit = luigi.IntParameter(default=1200, description="maximum number of months to run")
    param_name: str = luigi.Parameter(  # type: ignore[assignment]
        default="month", positional=False, description="which parameter takes the month"
    )

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._to_reload: dict[datetime.date, str] = {}  # to extract again, with the source that has the new edition

    def missing_datetimes(self, finite_datetimes: list[datetime.datetime]) -> list[datetime.datetime]:
        """Returns the months that are not complete and that are published or loaded."""
        settings = SourceSettings()
        incomplete = [moment.date() for moment in super().missing_datetimes(finite_datetimes)]
        loaded = self._loaded() if incomplete else set()
        missing = [month for month in incomplete if Release(self._dataset, month).key not in loaded]
        releases = [Release(self._dataset, month) for month in missing]
        locations_of = functools.partial(settings.locations, source=self.of_params.get("source", ""))
        published = published_months(releases, locations_of, settings.http_options())
        complete = sorted({moment.date() for moment in finite_datetimes} - set(missing))
        if missing and not published and not self._has_any(complete, locations_of):
            raise PipelineError(
                f"none of the months {_format_months(sorted([*complete, *missing]))} of {self._dataset.name} is at the"
                " source; check [source] base_url"
            )
        available = {*complete, *published}
        self._log_absent([month for month in missing if month not in available], available)
        self._log_republished(complete)
        self._to_reload |= self._corrected(published)
        ready = [month for month in incomplete if month in available]
        return [datetime.datetime.combine(month, datetime.time()) for month in ready]

    def requires(self) -> list[luigi.Task]:
        """Returns the tasks of the missing months that are published, and of the months to load again."""
        missing: list[luigi.Task] = super().requires()  # computed once, with the months to load again
        again = [
            self.of_cls(**{"source": source, **self._task_parameters(month), "force": True})
            for month, source in self._to_reload.items()
        ]
        reloaded = {task.task_id for task in again}  # a loaded month may be missing in the models only
        return [*(task for task in missing if task.task_id not in reloaded), *again]

    def _loaded(self) -> set[str]:
        """Returns the keys of the releases that need not be at the source, as the task has only to model them."""
        if self.of_params.get("force") or not self._ledgers:
            return set()
        return set.intersection(*({entry.partition_key for entry in ledger} for ledger in self._ledgers))

    def _has_any(self, complete: list[datetime.date], locations_of: Callable[[Release], Sequence[Location]]) -> bool:
        """Returns whether the source has one of the last complete months, which shows that it works."""
        options = SourceSettings().http_options()
        return any(
            published_months([Release(self._dataset, month)], locations_of, options)
            for month in reversed(complete[-_RECHECKED_MONTHS:])
        )

    def _log_republished(self, complete: list[datetime.date]) -> None:
        editions = self._find_new_editions(complete)
        newly_found = {key for key, _ in NewEditions(ScheduleSettings().folder()).record(editions)}
        found = {key: source for (key, source), edition in editions.items() if edition}
        months = {month: found[key] for month in complete if (key := Release(self._dataset, month).key) in found}
        reloads = ScheduleSettings().reload == "always" and "force" in dict(self.of_cls.get_params())
        for month, source in months.items():
            release = Release(self._dataset, month)
            is_default = SourceSettings().locations(release)[0].source.name == source
            by_hand = f"load it again with --force{'' if is_default else f' --source {source}'}"
            action = "it is loaded again" if reloads else f"{by_hand}, or set [schedule] reload = always"
            message = f"{release} was published again since it was loaded; {action}"
            logger.warning(message)
            if release.key in newly_found:
                task = self.of_cls(**self._task_parameters(month))
                task.trigger_event(REPUBLISHED, task, message)
        self._to_reload = months if reloads else {}

    @property
    def _dataset(self) -> Dataset:
        if "taxi" not in self.of_params:
            raise PipelineError("""--of-params must name the dataset, such as '{"taxi":"green"}'""")
        return dataset_named(self.of_params["taxi"])

    def _find_new_editions(self, months: list[datetime.date]) -> dict[tuple[str, str], Edition | None]:
        """Returns the source's edition of the last loaded months, by key and source; None if it has not changed."""
        settings, releases = SourceSettings(), [Release(self._dataset, month) for month in sorted(months)]
        editions: dict[tuple[str, str], Edition | None] = {}
        for ledger in self._ledgers:
            loaded = {entry.partition_key: entry for entry in ledger if entry.source not in ("", ADOPTED)}
            for release in [each for each in releases if each.key in loaded][-_RECHECKED_MONTHS:]:
                entry = loaded[release.key]
                if editions.get((release.key, entry.source)):
                    continue  # another warehouse has an earlier edition, too
                try:
                    location = settings.locations(release, entry.source)[0]
                    edition = find_edition(release, location, settings.http_options())
                except PipelineError as error:  # does not keep other months from being loaded
                    logger.warning("%s: cannot check whether it was published again: %s", release, error)
                    continue
                is_new = edition is not None and entry.is_superseded_by(edition)
                editions[release.key, entry.source] = edition if is_new else None
        return editions

    def _corrected(self, months: list[datetime.date]) -> dict[datetime.date, str]:
        """Returns those of the months, with their source, that no warehouse has, and whose extracted file is not what
        the source has now: the file could not be loaded, and the source may have corrected it."""
        if not {"force", "source"} <= dict(self.of_cls.get_params()).keys():
            return {}
        settings, loaded = SourceSettings(), {entry.partition_key for ledger in self._ledgers for entry in ledger}
        corrected: dict[datetime.date, str] = {}
        for month in months:
            release = Release(self._dataset, month)
            locations = settings.locations(release, self.of_params.get("source", ""))
            file = extracted_file(release, locations, StorageSettings().raw_folder())
            extracted = None if release.key in loaded or not file.exists() else ExtractedFile.read(file)
            location = next((each for each in locations if extracted and each.source.name == extracted.source), None)
            if extracted is None or location is None:
                continue
            edition = find_edition(release, location, settings.http_options())
            if edition and edition.differs_from(extracted.etag, extracted.last_modified, extracted.bytes):
                logger.info("%s was published again since it was extracted; it is extracted again", release)
                corrected[month] = location.source.name
        return corrected

    @functools.cached_property
    def _ledgers(self) -> list[Sequence[LedgerEntry]]:
        """What is loaded, before this run, into each warehouse that the task of a month loads into."""
        name = getattr(self.of_cls, "warehouse_name", "") or self.of_params.get("warehouse", "")
        return [warehouse_named(warehouse).loaded() for warehouse in WAREHOUSE_CHOICES.get(name, [])]

    def _log_absent(self, absent: list[datetime.date], available: set[datetime.date]) -> None:
        if gaps := [month for month in absent if month < max(available)]:
            logger.warning("%s: the source lacks %s, but has later months", self._dataset.name, _format_months(gaps))
        if upcoming := [month for month in absent if month > max(available)]:
            logger.info("%s: not published yet: %s", self._dataset.name, _format_months(upcoming))


def _format_months(months: list[datetime.date]) -> str:
    names = [format_month(month) for month in months]
    return ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]} ({len(names)} months)"
