"""Alerts by mail and webhook: one for each burst of failures, one for its recovery, and failed deliveries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from central import central_scheduler, free_port
from conftest import CHECKOUT, Run, publish, run_command, settings
from http_source import HttpSource
from receivers import WEBHOOK_PATH, Receivers, running_receivers

from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")
MISSING = ("LoadTripdata", "--taxi", "green", "--month", "2019-02")
BACKFILL = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi":"green"}', "--start", "2019-01")


@pytest.fixture
def alerts() -> Iterator[Receivers]:
    with running_receivers() as running:
        yield running


def test_failing_month_sends_one_alert_and_its_recovery_another(luigi: Run, alerts: Receivers, mirror: Path) -> None:
    for _ in range(2):
        assert luigi(*MISSING, **alerts.settings).returncode == 30
    assert alerts.counts() == (1, 1)
    (mail,), (post,) = alerts.mails, alerts.posts
    assert mail["Subject"].startswith("ExtractTripdata(taxi=green, month=2019-02) failed on ")
    assert mail["To"] == "ops@example.org, data@example.org"
    assert "green 2019-02 does not exist at" in mail.get_content()
    (task,) = post["tasks"]
    assert post["status"] == "failed" and post["path"] == WEBHOOK_PATH
    assert (task["task"], task["parameters"]) == ("ExtractTripdata", {"taxi": "green", "month": "2019-02"})
    assert task["detail"].startswith("green 2019-02 does not exist at ") and task["detail"] in post["text"]
    assert "\n" not in task["detail"] and Path(task["run"]).exists()

    publish(mirror, "2019-02")
    assert luigi(*MISSING, **alerts.settings).returncode == 0
    assert alerts.counts() == (2, 2)
    assert alerts.mails[1]["Subject"].startswith("ExtractTripdata(taxi=green, month=2019-02) recovered on ")
    assert alerts.posts[1]["status"] == "recovered"
    assert "failed 2 times since" in alerts.posts[1]["text"]

    assert luigi(*MISSING, **alerts.settings).returncode == 0
    assert alerts.counts() == (2, 2)


def test_month_that_fails_after_its_recovery_sends_a_new_alert(luigi: Run, alerts: Receivers, mirror: Path) -> None:
    luigi(*MISSING, **alerts.settings)
    publish(mirror, "2019-02")
    luigi(*MISSING, **alerts.settings)
    luigi("LoadTripdata", "--taxi", "green", "--month", "2019-03", **alerts.settings)
    luigi(*MISSING, "--force", PIPELINE__SOURCE__BASE_URL="/nowhere", **alerts.settings)

    assert [post["status"] for post in alerts.posts] == ["failed", "recovered", "failed", "failed"]
    assert alerts.posts[3]["tasks"][0]["parameters"]["month"] == "2019-02"


@pytest.mark.parametrize("workers", ["1", "3"])
def test_backfill_without_its_source_sends_one_alert_and_one_recovery(
    luigi: Run, alerts: Receivers, mirror: Path, workers: str
) -> None:
    command = (*BACKFILL, "--stop", "2019-07", "--workers", workers)
    assert luigi(*command, PIPELINE__SOURCE__BASE_URL="/nowhere", **alerts.settings).returncode == 30
    assert alerts.counts() == (1, 1)
    assert alerts.mails[0]["Subject"].startswith("6 tasks failed on ")
    assert {task["parameters"]["month"] for task in alerts.posts[0]["tasks"]} == {f"2019-0{n}" for n in range(1, 7)}

    publish(mirror, *(f"2019-0{month}" for month in range(2, 7)))
    assert luigi(*command, **alerts.settings).returncode == 0
    assert alerts.counts() == (2, 2)
    assert alerts.mails[1]["Subject"].startswith("6 tasks recovered on ")


def test_alert_for_an_unreachable_database_does_not_contain_the_password(luigi: Run, alerts: Receivers) -> None:
    assert luigi(*LOAD, **alerts.settings).returncode == 0
    for _ in range(2):
        down = luigi(*LOAD, PIPELINE__POSTGRES__DSN="postgresql://me:s3cr%65t@127.0.0.1:1/taxi", **alerts.settings)
        assert down.returncode == 35
    assert alerts.counts() == (1, 1)
    (task,) = alerts.posts[0]["tasks"]
    assert task["task"] == "LoadTripdata" and task["detail"].startswith("no connection to PostgreSQL")
    assert "s3cr" not in json.dumps(alerts.posts[0]["tasks"]) + alerts.mails[0].as_string()

    assert luigi(*LOAD, **alerts.settings).returncode == 0
    assert alerts.counts() == (2, 2)
    assert alerts.posts[1]["status"] == "recovered"


@pytest.mark.parametrize(
    "base_url",
    [
        "file://user:{secret}@host/data",
        "http://user:{secret}@{site}/data?token={secret}",
        "http://{secret}@127.0.0.1:1/data/?token={secret}",
        "ftp://user:{secret}@host/data?token={secret}",
        "http://user:pa/{secret}@{site}/?token={secret}",
    ],
    ids=["file URL", "missing file", "no server", "unsupported scheme", "slash in the password"],
)
def test_credentials_in_a_base_url_are_not_in_logs_alerts_or_mails(
    luigi: Run, alerts: Receivers, site: HttpSource, tmp_path: Path, base_url: str
) -> None:
    base_url = base_url.format(secret="hunter2", site=site.url.removeprefix("http://"))
    failed = luigi(
        *MISSING,
        *("--source-base-url", base_url, "--log-level", "DEBUG"),
        PIPELINE__SOURCE__RETRIES="1",
        **alerts.settings,
    )

    assert failed.returncode == 30, failed.stderr
    assert alerts.counts() == (1, 1)
    sent = json.dumps(alerts.posts) + alerts.mails[0].as_string() + alerts.mails[0].get_content()
    files = {path.name: path.read_text("latin-1") for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert any(name.endswith(".jsonl") for name in files) and (tmp_path / "data" / "alerts").exists()
    assert "hunter2" not in sent + failed.stdout + failed.stderr + "".join(files.values())


def test_backfill_that_cannot_be_scheduled_sends_one_alert(luigi: Run, alerts: Receivers) -> None:
    dsn = "postgresql://me@127.0.0.1:1/taxi"
    failed = luigi(*BACKFILL, "--stop", "2019-07", PIPELINE__POSTGRES__DSN=dsn, **alerts.settings)

    assert failed.returncode == 35
    assert alerts.counts() == (1, 1)


def test_undelivered_alert_does_not_change_the_exit_code_and_is_retried(
    luigi: Run, alerts: Receivers, mirror: Path
) -> None:
    alerts.webhook_status = 503
    failed = luigi(*MISSING, **alerts.settings)
    assert failed.returncode == 30
    assert alerts.counts() == (1, 0)
    (warning,) = [line for line in failed.stderr.splitlines() if "not delivered" in line]
    assert "WARNING: alert not delivered, will be retried: webhook: " in warning
    assert "127.0.0.1 answered 503" in warning

    alerts.webhook_status = 200
    assert luigi(*MISSING, **alerts.settings).returncode == 30
    assert alerts.counts() == (1, 1)

    publish(mirror, "2019-02")
    alerts.webhook_status = 503
    assert luigi(*MISSING, **alerts.settings).returncode == 0
    assert alerts.counts() == (2, 1)
    alerts.webhook_status = 200
    assert luigi(*MISSING, PIPELINE__ALERTS__GATHER_MINUTES="0", **alerts.settings).returncode == 0
    assert alerts.counts() == (2, 2)
    assert alerts.posts[1]["status"] == "recovered"


def test_unreachable_receivers_cause_one_warning_each_without_the_secret(luigi: Run, tmp_path: Path) -> None:
    port = free_port()
    unreachable = {
        "PIPELINE__EMAIL__RECEIVER": "ops@example.org",
        "PIPELINE__SMTP__HOST": "127.0.0.1",
        "PIPELINE__SMTP__PORT": str(port),
        "PIPELINE__ALERTS__WEBHOOK_URL": f"http://127.0.0.1:{port}{WEBHOOK_PATH}",
        "NO_PROXY": "127.0.0.1",
    }
    failed = luigi(*MISSING, **unreachable)

    assert failed.returncode == 30
    warnings = [line for line in failed.stderr.splitlines() if "not delivered" in line]
    assert len(warnings) == 2 and "Traceback" not in failed.stderr
    written = "".join(file.read_text() for file in (tmp_path / "data").rglob("*.json*") if file.is_file())
    assert "s3cr3t" not in failed.stdout + failed.stderr + written


def test_alert_state_is_not_written_without_receivers(luigi: Run, tmp_path: Path) -> None:
    assert luigi(*MISSING).returncode == 30
    assert not (tmp_path / "data" / "alerts").exists()


def test_success_is_reported_if_configured(luigi: Run, alerts: Receivers) -> None:
    assert luigi(*LOAD, PIPELINE__ALERTS__TELL_SUCCESS="true", **alerts.settings).returncode == 0
    assert alerts.counts() == (1, 1)
    assert [task["task"] for task in alerts.posts[0]["tasks"]] == ["ExtractTripdata", "LoadTripdata"]
    assert "500 rows loaded into green_tripdata" in alerts.mails[0].get_content()

    assert luigi(*LOAD, PIPELINE__ALERTS__TELL_SUCCESS="true", **alerts.settings).returncode == 0
    assert alerts.counts() == (1, 1)


def test_alert_contains_the_configured_link(luigi: Run, alerts: Receivers) -> None:
    luigi(*MISSING, "--alerts-link", "https://wiki.example.org/taxi", **alerts.settings)

    assert alerts.posts[0]["tasks"][0]["link"] == "https://wiki.example.org/taxi"
    assert "https://wiki.example.org/taxi" in alerts.mails[0].get_content()


def test_alert_links_to_the_task_on_the_central_schedulers_page(
    luigi: Run, alerts: Receivers, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    with central_scheduler(settings(tmp_path, database, mirror)) as ui:
        luigi(*MISSING, "--scheduler-url", ui.url, PIPELINE__CORE__LOCAL_SCHEDULER="false", **alerts.settings)
        link = urlsplit(alerts.posts[0]["tasks"][0]["link"])
        page = requests.get(f"{ui.url}{link.path.lstrip('/')}", timeout=10)

        assert ui.url.startswith(f"http://{link.netloc}/") and page.status_code == 200
        assert parse_qs(link.fragment)["taskId"] == list(ui.tasks("DISABLED"))


def test_killed_worker_is_reported_by_its_parent_process(tmp_path: Path, alerts: Receivers) -> None:
    (tmp_path / "fatal.py").write_text(
        "import os, signal\n"
        "import luigi\n"
        "from pipeline.tasks.base import PipelineTask\n"
        "class Fatal(PipelineTask):\n"
        "    note = luigi.Parameter(default='a <b>&c')\n"
        "    password = luigi.Parameter(default='hunter2', significant=False)\n"
        "    def run(self):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = alerts.settings | {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}", "PIPELINE__STORAGE__ROOT": str(tmp_path)}
    failed = run_command("luigi", "--module", "fatal", "Fatal", "--workers", "2", **environment)

    assert failed.returncode == 30
    assert alerts.counts() == (1, 1)
    (task,) = alerts.posts[0]["tasks"]
    assert "died unexpectedly with exit code -9" in task["detail"]
    assert task["parameters"] == {"note": "a <b>&c"}
    assert "note=a &lt;b&gt;&amp;c" in alerts.posts[0]["text"]
    assert "hunter2" not in json.dumps(alerts.posts) + alerts.mails[0].as_string()
