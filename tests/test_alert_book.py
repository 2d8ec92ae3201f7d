"""The book of alerts: when news is due, when a burst is over, and several processes with one book."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from pipeline.monitoring.alert import Alert, Status, Subject
from pipeline.monitoring.alert_state import AlertState
from pipeline.monitoring.messages import Message

MONTH = Subject("LoadTripdata_1", "LoadTripdata", {"taxi": "green", "month": "2019-01"})
OTHER = Subject("LoadTripdata_2", "LoadTripdata", {"taxi": "green", "month": "2019-02"})


class Channel:
    """Keeps what it is told; refuses while it is told to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.is_down = False

    def __call__(self, message: Message) -> None:
        if self.is_down:
            raise OSError("down")
        self.told.append((message.status, len(message.news)))


@pytest.fixture
def channel() -> Channel:
    return Channel()


def book(folder: Path, gather_seconds: float = 3600, burst_seconds: float = 3600) -> AlertState:
    return AlertState(folder / "alerts" / "book.json", gather_seconds, burst_seconds)


def test_news_waits_for_the_end_of_its_run(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = book(tmp_path), {"webhook": channel}
    alerts.failed(MONTH, "why", "run 1", channels)
    alerts.failed(OTHER, "why", "run 2", channels)
    alerts.deliver(channels)
    assert channel.told == []

    alerts.deliver(channels, "run 1")
    assert channel.told == [("failed", 1)]


def test_news_of_a_long_run_is_told_before_it_ends(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = book(tmp_path, gather_seconds=0), {"webhook": channel}
    alerts.failed(MONTH, "why", "run 1", channels)
    alerts.failed(OTHER, "why", "run 1", channels)
    alerts.deliver(channels)
    alerts.deliver(channels, "run 1")

    assert channel.told == [("failed", 2)]


def test_news_of_a_killed_run_is_told_by_another(tmp_path: Path, channel: Channel) -> None:
    channels = {"webhook": channel}
    book(tmp_path).failed(MONTH, "why", "killed", channels)
    book(tmp_path, gather_seconds=0).deliver(channels, "another")

    assert channel.told == [("failed", 1)]


def test_failure_that_its_own_run_mends_is_not_told(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = book(tmp_path), {"webhook": channel}
    alerts.failed(MONTH, "why", "run", channels)
    alerts.succeeded(MONTH, "done", "run", {})
    alerts.deliver(channels, "run")

    assert channel.told == []
    assert alerts.is_empty()


def test_failure_after_a_long_quiet_is_a_new_burst(tmp_path: Path, channel: Channel) -> None:
    channels = {"webhook": channel}
    for number in range(3):
        alerts = book(tmp_path, burst_seconds=0)
        alerts.failed(MONTH, "why", f"run {number}", channels)
        alerts.failed(MONTH, "why", f"run {number}", channels)
        book(tmp_path).deliver(channels, f"run {number}")

    assert channel.told == [("failed", 1)] * 3


def test_channel_that_is_down_is_pending_what_the_other_has(tmp_path: Path, channel: Channel) -> None:
    alerts, down = book(tmp_path), Channel()
    channels = {"e-mail": channel, "webhook": down}
    down.is_down = True
    alerts.failed(MONTH, "why", "run 1", channels)
    assert alerts.deliver(channels, "run 1") == ["webhook: down"]

    down.is_down = False
    alerts.failed(MONTH, "why", "run 2", channels)
    assert alerts.deliver(channels, "run 2") == []
    assert channel.told == down.told == [("failed", 1)]


def test_channel_that_a_run_does_not_have_still_hears_of_the_recovery(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = book(tmp_path, gather_seconds=0), {"e-mail": channel}
    alerts.failed(MONTH, "why", "by cron", channels)
    alerts.deliver(channels, "by cron")
    alerts.failed(MONTH, "why", "on a terminal", {})
    alerts.succeeded(MONTH, "done", "on a terminal", {})
    alerts.deliver({}, "on a terminal")

    alerts.deliver(channels, "by cron")
    assert channel.told == [("failed", 1), ("recovered", 1)]
    assert alerts.is_empty()


def test_unreadable_book_is_begun_anew(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = book(tmp_path), {"webhook": channel}
    alerts.file.parent.mkdir()
    alerts.file.write_text('[{"no": "news"}')
    alerts.failed(MONTH, "why", "run", channels)
    alerts.deliver(channels, "run")

    assert channel.told == [("failed", 1)]


def test_failure_that_cannot_be_noted_is_told_at_once(tmp_path: Path, channel: Channel) -> None:
    (tmp_path / "alerts").write_text("no folder can be made here")
    down = Channel()
    down.is_down = True

    assert book(tmp_path).failed(MONTH, "why", "run", {"e-mail": channel, "webhook": down}) == ["webhook: down"]
    assert channel.told == [("failed", 1)]


def fail_often(folder: Path, number: int) -> None:
    for month in range(10):
        subject = Subject(f"{number}-{month}", "LoadTripdata", {})
        book(folder).failed(subject, "why", "run", {"webhook": Channel()})


def test_processes_share_one_book(tmp_path: Path, channel: Channel) -> None:
    processes = [multiprocessing.Process(target=fail_often, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    book(tmp_path).deliver({"webhook": channel}, "run")

    assert channel.told == [("failed", 40)]


def test_message_lists_only_so_many() -> None:
    news = [Alert(MONTH, Status.FAILED, "why", "run", []) for _ in range(30)]
    message = Message(Status.FAILED, news)

    assert message.subject.startswith("30 tasks failed on ")
    assert message.text.count("LoadTripdata(taxi=green, month=2019-01): why") == 20
    assert message.text.endswith("\n\nand 10 more\n")
    assert len(message.fields()["tasks"]) == 30  # type: ignore[arg-type]
