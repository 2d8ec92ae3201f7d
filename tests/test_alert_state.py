"""The state of alerts: when an alert is due, when a burst ends, and how processes share the state."""

from __future__ import annotations

import copy
import json
import multiprocessing
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import luigi.configuration
import pytest

from pipeline.monitoring.alert_state import AlertState
from pipeline.monitoring.alerts import Alert, Message, Status, Subject
from pipeline.monitoring.channels import Mail

MONTH = Subject("LoadTripdata_1", "LoadTripdata", {"taxi": "green", "month": "2019-01"})
OTHER = Subject("LoadTripdata_2", "LoadTripdata", {"taxi": "green", "month": "2019-02"})


class Channel:
    """Records what it receives; fails while it is down."""

    def __init__(self) -> None:
        self.received: list[tuple[str, int]] = []
        self.is_down = False

    def __call__(self, message: Message) -> None:
        if self.is_down:
            raise OSError("down")
        self.received.append((message.status, len(message.alerts)))


@pytest.fixture
def channel() -> Channel:
    return Channel()


def state(folder: Path, gather_seconds: float = 3600, burst_seconds: float = 3600) -> AlertState:
    return AlertState(folder / "alerts" / "state.json", gather_seconds, burst_seconds)


def test_alert_waits_for_the_end_of_its_run(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = state(tmp_path), {"webhook": channel}
    alerts.failed(MONTH, "why", "run 1", channels)
    alerts.failed(OTHER, "why", "run 2", channels)
    alerts.deliver(channels)
    assert channel.received == []

    alerts.deliver(channels, "run 1")
    assert channel.received == [("failed", 1)]


def test_alert_of_a_long_run_is_sent_before_the_run_ends(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = state(tmp_path, gather_seconds=0), {"webhook": channel}
    alerts.failed(MONTH, "why", "run 1", channels)
    alerts.failed(OTHER, "why", "run 1", channels)
    alerts.deliver(channels)
    alerts.deliver(channels, "run 1")

    assert channel.received == [("failed", 2)]


def test_recoveries_wait_for_the_end_of_their_run(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts, channels = state(tmp_path, burst_seconds=48 * 3600), {"webhook": channel}
    for month in (MONTH, OTHER):
        alerts.failed(month, "why", "run 1", channels)
    alerts.deliver(channels, "run 1")
    tomorrow = time.time() + 24 * 3600
    monkeypatch.setattr("pipeline.monitoring.alerts.time.time", lambda: tomorrow)
    for month in (MONTH, OTHER):
        alerts.succeeded(month, "done", "run 2", {})
        alerts.deliver(channels)
    alerts.deliver(channels, "run 2")

    assert channel.received == [("failed", 2), ("recovered", 2)]


def test_alert_that_has_waited_takes_the_others_of_its_run_along(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = state(tmp_path), {"webhook": channel}
    for month in (MONTH, OTHER):
        alerts.failed(month, "why", "run", channels)
    first, second = json.loads(alerts.file.read_text())
    alerts.file.write_text(json.dumps([{**first, "attempted": first["attempted"] - 3600}, second]))
    alerts.deliver(channels)

    assert channel.received == [("failed", 2)]


def test_alert_of_a_killed_run_is_sent_by_another_run(tmp_path: Path, channel: Channel) -> None:
    channels = {"webhook": channel}
    state(tmp_path).failed(MONTH, "why", "killed", channels)
    state(tmp_path, gather_seconds=0).deliver(channels, "another")

    assert channel.received == [("failed", 1)]


def test_failure_that_the_same_run_fixes_is_not_sent(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = state(tmp_path), {"webhook": channel}
    alerts.failed(MONTH, "why", "run", channels)
    alerts.succeeded(MONTH, "done", "run", {})
    alerts.deliver(channels, "run")

    assert channel.received == []
    assert alerts.is_empty()


def test_failure_after_a_quiet_period_starts_a_new_burst(tmp_path: Path, channel: Channel) -> None:
    channels = {"webhook": channel}
    for number in range(3):
        alerts = state(tmp_path, burst_seconds=0)
        alerts.failed(MONTH, "why", f"run {number}", channels)
        alerts.failed(MONTH, "why", f"run {number}", channels)
        state(tmp_path).deliver(channels, f"run {number}")

    assert channel.received == [("failed", 1)] * 3


def test_alert_stays_pending_for_a_channel_that_is_down(tmp_path: Path, channel: Channel) -> None:
    alerts, down = state(tmp_path), Channel()
    channels = {"e-mail": channel, "webhook": down}
    down.is_down = True
    alerts.failed(MONTH, "why", "run 1", channels)
    assert alerts.deliver(channels, "run 1") == ["webhook: down"]

    down.is_down = False
    alerts.failed(MONTH, "why", "run 2", channels)
    assert alerts.deliver(channels, "run 2") == []
    assert channel.received == down.received == [("failed", 1)]


@pytest.mark.parametrize("status", ["failed", "recovered", "republished"])
def test_alert_stays_pending_for_a_channel_that_is_down_for_longer_than_a_burst(
    tmp_path: Path, channel: Channel, status: str
) -> None:
    alerts, channels = state(tmp_path), {"webhook": channel}
    if status == "republished":
        alerts.republished(MONTH, "again", "run", channels)
    else:
        alerts.failed(MONTH, "why", "run", channels)
    if status == "recovered":
        alerts.deliver(channels, "run")
        alerts.succeeded(MONTH, "done", "run", channels={})
    channel.is_down = True
    assert alerts.deliver(channels, "run") == ["webhook: down"]

    channel.is_down = False
    assert state(tmp_path, gather_seconds=0, burst_seconds=0).deliver(channels, "later") == []
    assert channel.received[-1] == (status, 1)


def test_alert_for_a_removed_channel_is_forgotten_after_thirty_days(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts, now = state(tmp_path), time.time()
    alerts.failed(MONTH, "why", "run 1", {"webhook": channel})
    for days, expected in ((29, [MONTH.task_id, OTHER.task_id]), (31, [OTHER.task_id])):
        monkeypatch.setattr("pipeline.monitoring.alerts.time.time", lambda days=days: now + days * 86_400)
        alerts.failed(OTHER, "why", "run 2", {"e-mail": channel})
        assert [alert["subject"]["task_id"] for alert in json.loads(alerts.file.read_text())] == expected


def test_channel_that_the_recovering_run_lacks_is_notified_by_a_later_run(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = state(tmp_path, gather_seconds=0), {"e-mail": channel}
    alerts.failed(MONTH, "why", "by cron", channels)
    alerts.deliver(channels, "by cron")
    alerts.failed(MONTH, "why", "on a terminal", {})
    alerts.succeeded(MONTH, "done", "on a terminal", {})
    alerts.deliver({}, "on a terminal")

    alerts.deliver(channels, "by cron")
    assert channel.received == [("failed", 1), ("recovered", 1)]
    assert alerts.is_empty()


def test_unreadable_state_is_replaced(tmp_path: Path, channel: Channel) -> None:
    alerts, channels = state(tmp_path), {"webhook": channel}
    alerts.file.parent.mkdir()
    alerts.file.write_text('[{"no": "news"}')
    alerts.failed(MONTH, "why", "run", channels)
    alerts.deliver(channels, "run")

    assert channel.received == [("failed", 1)]


def test_failure_that_cannot_be_recorded_is_sent_immediately(tmp_path: Path, channel: Channel) -> None:
    (tmp_path / "alerts").write_text("no folder can be created here")
    down = Channel()
    down.is_down = True

    assert state(tmp_path).failed(MONTH, "why", "run", {"e-mail": channel, "webhook": down}) == ["webhook: down"]
    assert channel.received == [("failed", 1)]


def fail_often(folder: Path, number: int) -> None:
    for month in range(10):
        subject = Subject(f"{number}-{month}", "LoadTripdata", {})
        state(folder).failed(subject, "why", "run", {"webhook": Channel()})


def test_processes_share_one_state(tmp_path: Path, channel: Channel) -> None:
    processes = [multiprocessing.Process(target=fail_often, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    state(tmp_path).deliver({"webhook": channel}, "run")

    assert channel.received == [("failed", 40)]


def test_hanging_mail_server_does_not_lock_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts, hanging = state(tmp_path, gather_seconds=0), socket.create_server(("127.0.0.1", 0))
    config = luigi.configuration.get_config()
    for section, key, value in (
        ("email", "receiver", "ops@example.org"),
        ("email", "force_send", "true"),
        ("smtp", "host", "127.0.0.1"),
        ("smtp", "port", str(hanging.getsockname()[1])),
    ):
        monkeypatch.setattr(config, "_sections", copy.deepcopy(config._sections))
        config.set(section, key, value)
    channels = {"e-mail": Mail().send}
    alerts.failed(MONTH, "why", "run", channels)
    hanging.settimeout(20)
    with hanging, ThreadPoolExecutor(1) as pool:
        delivery = pool.submit(alerts.deliver, channels)
        connection, _ = hanging.accept()
        with connection:  # to which the server never responds
            assert alerts.failed(OTHER, "why", "run", channels) == []
            alerts.succeeded(MONTH, "done", "run", {})
            assert not delivery.done()
        problems = delivery.result()

    assert len(problems) == 1 and problems[0].startswith("e-mail: ")


def test_alert_is_not_sent_twice_by_concurrent_deliveries(tmp_path: Path, channel: Channel) -> None:
    alerts = state(tmp_path, gather_seconds=0)

    def send(message: Message) -> None:
        alerts.deliver({"webhook": channel})
        channel(message)

    alerts.failed(MONTH, "why", "run", {"webhook": send})
    alerts.deliver({"webhook": send}, "run")

    assert channel.received == [("failed", 1)]


@pytest.mark.parametrize("last_status", ["recovered", "failed"])
def test_status_that_changes_during_delivery_is_sent_too(tmp_path: Path, channel: Channel, last_status: str) -> None:
    alerts = state(tmp_path, gather_seconds=0)
    channels = {"webhook": channel}

    def recovers(message: Message) -> None:
        channel(message)
        alerts.succeeded(MONTH, "done", "run", {})

    def fails(message: Message) -> None:
        channel(message)
        alerts.failed(MONTH, "why", "run", channels)

    alerts.failed(MONTH, "why", "run", channels)
    alerts.deliver({"webhook": recovers})
    if last_status == "failed":
        alerts.deliver({"webhook": fails})
    alerts.deliver(channels)

    expected = [("failed", 1), ("recovered", 1), ("failed", 1)]
    assert channel.received == (expected if last_status == "failed" else expected[:2])


def test_message_text_lists_at_most_twenty_alerts() -> None:
    alerts = [Alert(MONTH, Status.FAILED, "why", "run", []) for _ in range(30)]
    message = Message(Status.FAILED, alerts)

    assert message.subject.startswith("30 tasks failed on ")
    assert message.text.count("LoadTripdata(taxi=green, month=2019-01): why") == 20
    assert message.text.endswith("\n\nand 10 more\n")
    assert len(message.fields()["tasks"]) == 30  # type: ignore[arg-type]
