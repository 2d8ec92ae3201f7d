"""When schedules fire: at the times of cron(8) in their time zone, also where daylight saving begins and ends."""

from __future__ import annotations

import datetime
import itertools
from typing import NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from conftest import CHECKOUT, Run

import pipeline.datasets.cron
from pipeline.datasets import all_datasets
from pipeline.datasets.cron import check_cron, firings
from pipeline.errors import PipelineError
from pipeline.schedule import catch_ups

NEW_YORK = ZoneInfo("America/New_York")
START, END = (datetime.datetime(year, 1, 1, tzinfo=NEW_YORK) for year in (2026, 2027))


def field_matches(field: str, value: int, lowest: int = 0) -> bool:
    """Whether a numeric field of crontab(5) includes a value."""
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if first == "*":
            first, last = str(lowest), "59"
        if value in range(int(first), int(last or first) + 1, int(step or 1)):
            return True
    return False


def cron_matches(cron: str, local: datetime.datetime) -> bool:
    """Whether an expression of crontab(5) includes a minute of local time."""
    minute, hour, day, month, weekday = cron.split()
    of_day = field_matches(day, local.day, 1)
    of_week = any(field_matches(weekday, number) for number in {local.isoweekday() % 7, local.isoweekday()})
    day_matches = of_day or of_week if "*" not in (day[0], weekday[0]) else of_day and of_week
    at_time = field_matches(minute, local.minute) and field_matches(hour, local.hour)
    return at_time and field_matches(month, local.month, 1) and day_matches


def cron_firings(cron: str) -> list[datetime.datetime]:
    """All half hours of the year at which the expression matches New York's local time."""
    instants = (START.astimezone(datetime.UTC) + datetime.timedelta(minutes=30 * n) for n in range(2 * 24 * 365))
    return [local for at in instants if cron_matches(cron, local := at.astimezone(NEW_YORK))]


def firings_of_the_year(cron: str) -> list[datetime.datetime]:
    return list(itertools.takewhile(END.__gt__, firings(cron, NEW_YORK, START)))


@pytest.mark.parametrize(
    "cron",
    [
        "0 9 1 * *",
        "30 17 * * 0",
        "30 17 * * 7",
        "0 9 * * 1-5",
        "0 9 * * 5-7",
        "0 9 * * */2",
        "0 9 1,15 * 1",
        "0 9 */10 * 1",
        "*/30 1 * 11 *",
        "0 0 31 * *",
        "0 3-5 8 3 *",
    ],
)
def test_expression_fires_when_cron_does(cron: str) -> None:
    found = firings_of_the_year(cron)

    assert found
    assert found == cron_firings(cron)
    assert [at.utcoffset() for at in found] == [at.utcoffset() for at in cron_firings(cron)]


def test_weekdays_may_be_names() -> None:
    assert firings_of_the_year("0 9 * * sun,Tue-Thu") == cron_firings("0 9 * * 0,2-4")


def test_last_day_of_the_month_has_a_name() -> None:
    found = firings_of_the_year("0 9 L 1-4 *")

    assert [f"{at:%m-%d}" for at in found] == ["01-31", "02-28", "03-31", "04-30"]


@pytest.mark.parametrize(
    ("cron", "times"),
    [
        ("30 2 8 3 *", ["2026-03-08T03:00:00-04:00"]),
        ("30 1 1 11 *", ["2026-11-01T01:30:00-04:00"]),
        ("*/30 1 1 11 *", [f"2026-11-01T01:{at}:00-0{hours}:00" for hours in (4, 5) for at in ("00", "30")]),
    ],
)
def test_skipped_time_fires_after_it_and_repeated_time_once(cron: str, times: list[str]) -> None:
    assert [at.isoformat() for at in firings_of_the_year(cron)] == times


def test_firing_in_a_repeated_hour_that_is_over_does_not_fire_again() -> None:
    second = datetime.datetime(2026, 11, 1, 1, 15, fold=1, tzinfo=NEW_YORK)

    assert next(firings("30 1 * * *", NEW_YORK, second)).isoformat() == "2026-11-02T01:30:00-05:00"


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 9 1 *", "wrong number of fields"),
        ("0 0 9 1 * *", "wrong number of fields"),
        ("61 9 1 * *", r"'61 9 1 \* \*': bad minute; a cron expression has minute \(0-59\), hour \(0-23\), day"),
        ("0 25 1 * *", "bad hour"),
        ("0 9 0 * *", "bad day-of-month"),
        ("0 9 30 2 *", "bad day-of-month"),
        ("0 9 1 foo *", "bad month"),
        ("*/0 9 1 * *", "bad minute"),
        ("0 9,,11 1 * *", "bad hour"),
        ("0 9 * * 8", "bad day-of-week"),
        ("0 9 * * someday", "bad day-of-week"),
        ("0 9 * * 5-1", "bad day-of-week"),
    ],
)
def test_invalid_expression_is_refused(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_cron(cron)


def test_schedule_on_a_machine_without_its_time_zone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_zone(name: str) -> NoReturn:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(pipeline.datasets.cron, "ZoneInfo", no_zone)
    monkeypatch.setattr(pipeline.datasets.cron, "available_timezones", set)
    with pytest.raises(
        PipelineError, match=r"green.yaml: schedule: 'America/New_York' is not a time zone .*; install tzdata"
    ):
        catch_ups(["green"])


def test_dry_run_of_a_year_lists_the_firings_in_new_york_time(pipeline: Run) -> None:
    shown = pipeline("schedule", "--dry-run", "--from", "2026-01-01", "--to", "2027-01-01")

    expected = [
        (at, f"{at:%Y-%m-%d %H:%M} {at.isoformat()[-6:]} {at:%Z}  {name}")
        for name, dataset in all_datasets().items()
        if dataset.schedule
        for at in cron_firings(dataset.schedule.cron)
    ]
    assert len(expected) >= 24
    assert {at.utcoffset() for at, _ in expected} == {datetime.timedelta(hours=hours) for hours in (-5, -4)}
    assert [line.rsplit(maxsplit=1)[0] for line in shown.stdout.splitlines()] == [line for _, line in sorted(expected)]


def test_dry_run_is_limited_to_the_requested_datasets_and_times(pipeline: Run) -> None:
    shown = pipeline(
        "schedule", "--dry-run", "--taxi", "yellow", "--from", "2026-03-01T15:00Z", "--to", "2026-03-02T10:01"
    )
    assert shown.stdout == (
        "2026-03-01 10:00 -05:00 EST  yellow   LoadTripdata\n2026-03-02 10:00 -05:00 EST  yellow   LoadTripdata\n"
    )

    wrong = pipeline("schedule", "--dry-run", "--from", "yesterday")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "pipeline: 'yesterday' is not a date such as 2026-01-01, or a time such as 2026-01-01T09:00\n",
    )
    assert "--dry-run" in pipeline("schedule", "--from", "2026-01-01").stderr


def test_systemd_timers_fire_at_the_times_in_the_specs() -> None:
    timers = {}
    for dataset in all_datasets().values():
        if dataset.schedule:
            minute, hour, *days = dataset.schedule.cron.split()
            assert days == ["*", "*", "*"]
            timers[dataset.name] = f"OnCalendar=*-*-* {int(hour):02}:{int(minute):02}:00 {dataset.schedule.timezone}\n"
    shipped = {file.stem.partition("@")[2]: file for file in (CHECKOUT / "deploy" / "systemd").glob("*.timer")}
    assert shipped.keys() == timers.keys()
    assert [name for name, line in timers.items() if line not in shipped[name].read_text()] == []
