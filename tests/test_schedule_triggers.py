"""When schedules fire: at the times of cron(8) in their time zone, also where daylight saving begins and ends."""

from __future__ import annotations

import datetime
from typing import NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from conftest import CHECKOUT, Run

import pipeline.datasets.cron
from pipeline.datasets import Schedule, all_datasets
from pipeline.datasets.cron import check_cron
from pipeline.errors import PipelineError
from pipeline.schedule import catch_ups
from pipeline.schedule.triggers import cron_trigger, firings

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
    found = list(firings(cron_trigger(Schedule(cron, "America/New_York")), START, END))

    assert found
    assert found == cron_firings(cron)
    assert [at.utcoffset() for at in found] == [at.utcoffset() for at in cron_firings(cron)]


def test_weekdays_may_be_names() -> None:
    by_name = cron_trigger(Schedule("0 9 * * sun,Tue-Thu", "America/New_York"))

    assert list(firings(by_name, START, END)) == cron_firings("0 9 * * 0,2-4")


def test_skipped_hour_fires_once_and_repeated_hour_twice() -> None:
    skipped = cron_trigger(Schedule("30 2 8 3 *", "America/New_York"))
    repeated = cron_trigger(Schedule("30 1 1 11 *", "America/New_York"))

    assert [at.isoformat() for at in firings(skipped, START, END)] == ["2026-03-08T03:30:00-04:00"]
    assert [at.isoformat() for at in firings(repeated, START, END)] == [
        "2026-11-01T01:30:00-04:00",
        "2026-11-01T01:30:00-05:00",
    ]


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 9 1 *", "4 fields"),
        ("61 9 1 * *", r"'61 9 1 \* \*': the minute '61' is not from 0 to 59"),
        ("0 25 1 * *", "the hour '25' is not from 0 to 23"),
        ("0 9 0 * *", "the day '0' is not from 1 to 31"),
        ("0 9 1 foo *", "the month 'foo' is not from 1 to 12"),
        ("*/0 9 1 * *", r"the minute '\*/0' is not"),
        ("0 9,,11 1 * *", "the hour '' is not"),
        ("0 9 * * 8", "the weekday '8' is not from 0 to 7"),
        ("0 9 * * someday", "the weekday 'someday' is not from 0 to 7"),
        ("0 9 * * 5-1", "the weekday '5-1' is not from 0 to 7"),
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
        PipelineError, match=r"green.yaml: schedule: 'America/New_York' is no time zone .*; install tzdata"
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
