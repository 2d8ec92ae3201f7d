"""The page of `pipeline ui` in a real browser, and its API as other systems use it."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi.configuration
import pytest
import requests
from browser import Browser, new_page
from central import CentralScheduler, central_scheduler
from conftest import publish, settings, start_command
from waiting import INSERT_JANUARY_MARKER, eventually, lock_held, wait_until_blocked

from pipeline.monitoring.logs import timestamp
from pipeline.ui.started_runs import StartedRun, command_of
from pipeline.warehouses.postgres.connection import PostgresDatabase

JANUARY = {"action": "load", "dataset": "green", "month": "2019-01"}
FEBRUARY = ("LoadTripdata", "--taxi", "green", "--month", "2019-02")


@pytest.fixture
def ui(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> Iterator[CentralScheduler]:
    # The ledger's times are then not in the time zone of the logs.
    with central_scheduler(settings(tmp_path, database, mirror) | {"PGTZ": "Asia/Tokyo"}) as running:
        yield running


@pytest.fixture
def token(ui: CentralScheduler, tmp_path: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {(tmp_path / 'data' / 'ui' / 'token').read_text().strip()}"}


@pytest.fixture(scope="module")
def unused_ui(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CentralScheduler]:
    """A server for all tests whose requests start and change nothing, as they are refused or only look."""
    folder = tmp_path_factory.mktemp("unused")
    with central_scheduler(settings(folder, PostgresDatabase(server, "unused"), folder)) as running:
        yield running


@pytest.fixture
def unused_token(unused_ui: CentralScheduler) -> dict[str, str]:
    folder = Path(unused_ui.settings["PIPELINE__STORAGE__ROOT"])
    return {"Authorization": f"Bearer {(folder / 'ui' / 'token').read_text().strip()}"}


@pytest.fixture
def page(ui: CentralScheduler, chromium_address: str) -> Iterator[Browser]:
    with new_page(chromium_address) as running:
        running.set_screen(1280, 900)
        running.go(ui.url)
        yield running


def call(ui: CentralScheduler, path: str, method: str = "GET", **options: Any) -> requests.Response:
    return requests.request(method, f"{ui.url}api/pipeline/{path}", timeout=30, **options)


def completed_run(ui: CentralScheduler, run: str) -> dict[str, Any]:
    eventually(lambda: call(ui, f"runs/{run}").json()["status"] not in ("running", "stopping"))
    found: dict[str, Any] = call(ui, f"runs/{run}").json()
    return found


def test_backfill_is_started_followed_and_repaired_on_the_page(
    page: Browser, ui: CentralScheduler, mirror: Path
) -> None:
    page.fill("[name=start]", "2019-01")
    page.fill("[name=stop]", "2019-02")
    page.click("form button", "Start")
    page.until("location.hash.startsWith('#runs/')")
    page.until("document.querySelector('h2 .tag')?.innerText === 'failed'")
    assert "green 2019-02 does not exist" in page.text()
    assert "exit code 30" in page.text() and "LoadTripdata green 2019-01" in page.text()
    assert "waiting for" not in page.text()  # for its own second process
    name = page.run(
        "nameTask('RangeMonthly', {of: 'LoadZones', reverse: 'False', now: 'None', start: '2019-01', stop: ''})"
    )
    assert name == "RangeMonthly LoadZones 2019-01"
    page.click("#tabs a", "Months")
    page.until("document.querySelector('[data-key=\"postgres/green/2019-01\"]')?.classList.contains('ok')")
    assert page.run("document.querySelector('[data-key=\"postgres/green/2019-01\"]').innerText") == "500"
    page.click(".cell.failed")
    page.until("!!document.querySelector('dialog[open]')")
    assert "green 2019-02 does not exist" in page.text()
    page.click("dialog a", "log")
    page.until("document.querySelector('#log')?.innerText.includes('ERROR failed')")

    publish(mirror, "2019-02")
    file = mirror / "green" / "green_tripdata_2019-02.csv.gz"
    intact = file.read_bytes()
    file.write_bytes(gzip.compress(gzip.decompress(intact).replace(b"\n", b"\nbroken", 1)))
    for status in ("failed", "done"):  # before the second time, the file is fixed at its source
        page.click("#tabs a", "Months")
        page.click(".cell.failed")
        page.click("dialog button", "Run it again")
        page.until(f"document.querySelector('h2 .tag')?.innerText === '{status}'")
        file.write_bytes(intact)
    page.click("#tabs a", "Months")
    page.until("document.querySelector('[data-key=\"postgres/green/2019-02\"]')?.classList.contains('ok')")
    page.click("[data-key='postgres/green/2019-02']")
    page.until("document.querySelector('dialog[open]')?.innerText.includes('Rows loaded')")
    assert "null" not in page.text()
    page.run("history.back()")
    page.until("location.hash !== '#months' && !document.querySelector('dialog[open]')", 10)

    assert page.errors == []
    assert {url.split("/")[2] for url in page.requested_urls if url.startswith("http")} == {f"127.0.0.1:{ui.port}"}


def test_month_that_is_loaded_and_failed_later_is_shown_as_failed(
    page: Browser, ui: CentralScheduler, token: dict[str, str], mirror: Path
) -> None:
    def load(**fields: object) -> str:
        run = call(ui, "runs", "POST", json={**JANUARY, **fields}, headers=token).json()["id"]
        return str(completed_run(ui, run)["status"])

    assert load() == "done"
    (mirror / "green" / "green_tripdata_2019-01.csv.gz").write_bytes(b"junk")
    assert load(force=True) == "failed"

    page.go(ui.url)
    page.until("!!document.querySelector('[data-key=\"postgres/green/2019-01\"]')")
    cell = "document.querySelector('[data-key=\"postgres/green/2019-01\"]')"
    assert page.run(f"[{cell}.className, {cell}.title]") == ["cell failed", "green 2019-01: loaded; last run: failed"]


def test_unknown_tab_shows_the_months(page: Browser) -> None:
    page.run("location.hash = '#alerts'")
    page.until("document.querySelector('#tabs [aria-current]')?.hash === '#alerts'")
    page.run("location.hash = '#nonsense'")
    page.until("document.querySelector('#tabs [aria-current]')?.hash === '#months'")
    page.until("document.body.innerText.includes('Nothing is loaded yet')")


def test_row_counts_are_rounded_to_the_next_unit(page: Browser) -> None:
    counts = [999, 1_234, 9_949, 9_999, 999_499, 999_999, 1_260_000, 9_999_999]
    shown = page.run(f"{counts}.map(short)")

    assert shown == ["999", "1.2k", "9.9k", "10k", "999k", "1.0M", "1.3M", "10M"]


@pytest.mark.parametrize("width", [390, 1280])
def test_no_tab_is_wider_than_the_screen(page: Browser, width: int) -> None:
    for dark in (False, True):
        page.set_screen(width, 844, dark)
        for tab in ("months", "runs", "schedules", "alerts"):
            page.run(f"location.hash = '#{tab}'")
            page.until(f"document.querySelector('#tabs [aria-current]')?.hash === '#{tab}'")
            assert page.run("document.documentElement.scrollWidth") <= width
    page.until("document.body.innerText.includes('Nothing is loaded yet') || location.hash !== '#months'")
    assert page.errors == []


def test_phone_shows_long_paths_labelled_times_and_each_task_beside_its_duration(
    page: Browser, ui: CentralScheduler, tmp_path: Path
) -> None:
    path = f"/srv/{'a_long_folder_' * 6}.csv.gz, line 3: not a whole number"
    log = tmp_path / "data" / "logs" / "20190101T000000-1.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    task = {"task": "LoadTripdata", "parameters": {"taxi": "green", "month": "2019-01"}}
    other = {"task": "LoadZones", "parameters": {}}
    log.write_text(
        "".join(
            json.dumps({"time": f"2019-01-01T00:00:0{second}.000+00:00", "message": "", "level": "INFO", **event})
            + "\n"
            for second, event in enumerate(
                [
                    {"event": "running", **other},
                    {"event": "done", **other},
                    {"event": "running", **task},
                    {"event": "failed", "error": path, **task},
                ]
            )
        )
    )
    subject = {"family": "LoadTripdata", "parameters": task["parameters"]}
    alert = {"status": "failed", "subject": subject, "since": 0, "pending": ["webhook"], "detail": path}
    alerts = tmp_path / "data" / "alerts" / "state.json"
    alerts.parent.mkdir()
    alerts.write_text(json.dumps([alert]))

    page.set_screen(390, 844)
    for tab in ("Runs", "Alerts", "Schedules"):
        page.run(f"location.hash = '#{tab.lower()}'")
        rights = "[...document.querySelectorAll('table, td')].map((e) => e.getBoundingClientRect().right)"
        is_shown = f"document.querySelector('td') && document.querySelector('h2').innerText === {tab!r}"
        page.until(f"{is_shown} && Math.max(...{rights}) <= 390")
    labels = "[...document.querySelectorAll('td')].map((e) => getComputedStyle(e, '::before').content)"
    assert page.run(labels)[:5] == ["none", '"When "', '"Next "', '"Last "', '"Task "']

    page.set_screen(1280, 844)
    page.run("location.hash = '#runs'")
    page.until("document.querySelector('h2').innerText === 'Runs'")
    assert page.run("getComputedStyle(document.querySelector('[data-label=Started]')).whiteSpace") == "nowrap"
    page.set_screen(390, 844)

    page.run("location.hash = '#runs/20190101T000000-1'")
    page.until("document.querySelectorAll('.timeline button').length === 2")
    tops = "[...document.querySelectorAll('.timeline button, .timeline .muted')].map((e) => e.getBoundingClientRect())"
    middles = page.run(f"{tops}.map((r) => r.top + r.height / 2)")
    assert abs(middles[0] - middles[1]) < 5 and abs(middles[2] - middles[3]) < 5 and middles[2] - middles[0] > 20
    assert "1 task done, 1 failed" in page.text()


def test_redrawing_keeps_the_focus_the_caret_and_what_is_scrolled(page: Browser, tmp_path: Path) -> None:
    log = tmp_path / "data" / "logs" / "20190101T000000-1.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    task = {"event": "running", "task": "LoadTripdata"}
    lines = [{**task, "parameters": {"taxi": "green", "month": f"2019-{month:02}"}} for month in range(1, 13)] * 4
    line = {"time": timestamp(), "message": "m", "level": "INFO"}
    log.write_text("".join(json.dumps(line | each) + "\n" for each in lines))

    page.until("!!document.querySelector('[name=start]')")
    page.run("document.querySelector('[name=start]').focus()")
    page.run("document.activeElement.setSelectionRange(4, 4)")
    page.run("refresh()")
    page.send("Input.insertText", text="5")
    assert page.run("document.querySelector('[name=start]').value") == "20195-01"

    page.run("location.hash = '#runs/20190101T000000-1'")
    page.until("document.querySelectorAll('.timeline button').length >= 12")
    page.run("document.querySelectorAll('.timeline button')[11].focus()")
    page.run("document.querySelector('.timeline').scrollTop = 20")
    page.run("document.querySelector('#log').scrollTop = 30")
    page.run("refresh()")
    assert page.run("document.activeElement.innerText") == "LoadTripdata green 2019-12"
    assert page.run("document.querySelector('.timeline').scrollTop") == 20
    assert page.run("document.querySelector('#log').scrollTop") == 30

    page.run("location.hash = '#months'")
    page.until("!!document.querySelector('form')")
    assert page.run("document.querySelectorAll('form').length") == 1
    assert page.errors == []


def test_status_message_is_shown_as_text_on_luigis_page(page: Browser, ui: CentralScheduler) -> None:
    ui.call_api("add_task", worker="w", task_id="T", family="T", status="RUNNING", runnable=True)
    ui.call_api("set_task_status_message", task_id="T", status_message="<img src=x onerror=window.harmed=1>")
    page.go(f"{ui.url}static/visualiser/index.html")
    page.until("!!document.querySelector('button.statusMessage')")
    page.click("button.statusMessage")
    page.until("document.querySelector('#statusMessageModal pre')?.innerText.includes('<img')")
    page.run("new Promise((done) => setTimeout(done, 1500))")
    assert not page.run("window.harmed")


def test_page_of_another_site_cannot_change_a_task(page: Browser, ui: CentralScheduler, tmp_path: Path) -> None:
    ui.call_api("add_task", worker="w", task_id="T", family="T", status="RUNNING", runnable=True)
    url = f"{ui.url}api/set_task_status_message?data=" + '{"task_id":"T","status_message":"harm"}'
    (tmp_path / "evil.html").write_text("<body>evil")
    page.go(f"file://{tmp_path}/evil.html")
    page.run(f"new Promise((done) => {{ const i = new Image(); i.onload = i.onerror = done; i.src = {url!r}; }})")
    page.run(f"fetch({url!r}, {{method: 'POST', mode: 'no-cors'}}).catch(() => 0).then(() => 0)")
    assert ui.call_api("get_task_status_message", task_id="T")["statusMessage"] is None


@pytest.mark.parametrize("path", ["", "api/task_list?data={}", "api/pipeline/runs", "history", "metrics", "static/x"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8082"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
    ids=str,
)
def test_foreign_host_and_origin_are_refused(unused_ui: CentralScheduler, path: str, headers: dict[str, str]) -> None:
    assert requests.get(f"{unused_ui.url}{path}", headers=headers, timeout=10).status_code == 403


def test_exposed_server_accepts_addresses_plain_names_and_configured_hosts(
    tmp_path: Path, database: PostgresDatabase, mirror: Path
) -> None:
    environment = settings(tmp_path, database, mirror) | {"PIPELINE__UI__HOSTS": "pipeline.example.org"}
    with central_scheduler(environment, "--address", "0.0.0.0", "--expose") as ui:
        answers = {
            host: requests.get(ui.url, headers={"Host": host}, timeout=10)
            for host in ("192.0.2.7:8082", "luigid:8082", "pipeline.example.org", "evil.example")
        }
        assert [answer.status_code for answer in answers.values()] == [200, 200, 200, 403]
        token = (tmp_path / "data" / "ui" / "token").read_text().strip()
        assert all(token not in answer.text for answer in answers.values())


def test_page_creates_no_database(tmp_path: Path) -> None:
    with central_scheduler({"PIPELINE__STORAGE__ROOT": str(tmp_path / "data")}) as ui:
        grid, month = call(ui, "grid").json(), call(ui, "months/postgres/green/2019-01").json()

    assert (grid["warehouses"], grid["loaded"], grid["problems"]) == ({"postgres": "PostgreSQL"}, {"postgres": []}, {})
    assert (month["entry"], month["problem"]) == (None, "")
    assert not (tmp_path / "data" / "postgres").exists()


def test_run_is_started_followed_and_read_with_the_api(ui: CentralScheduler, token: dict[str, str]) -> None:
    started = call(ui, "runs", "POST", json=JANUARY, headers=token)
    assert started.status_code == 201, started.text
    run = completed_run(ui, started.json()["id"])

    assert (run["status"], run["exit_code"], run["done"], run["failed"]) == ("done", 0, 2, 0)
    assert [each["task"] for each in run["tasks"]] == ["ExtractTripdata", "LoadTripdata"]
    events = [json.loads(line) for line in call(ui, f"runs/{run['id']}/log").text.splitlines()]
    assert ("done", "LoadTripdata") in [(event.get("event"), event.get("task")) for event in events]
    card = call(ui, "months/postgres/green/2019-01").json()
    assert card["entry"]["rows_loaded"] == 500
    assert [each["status"] for each in card["tries"]] == ["done", "done"]
    assert call(ui, "runs").json()[0]["id"] == run["id"]


def test_task_requested_twice_is_one_run_that_can_be_cancelled(ui: CentralScheduler, token: dict[str, str]) -> None:
    first = call(ui, "runs", "POST", json=JANUARY, headers=token)
    again = call(ui, "runs", "POST", json=JANUARY, headers=token)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])

    assert call(ui, f"runs/{first.json()['id']}", "DELETE").status_code == 401
    cancelled = call(ui, f"runs/{first.json()['id']}", "DELETE", headers=token)
    assert cancelled.json()["stopped"]
    assert completed_run(ui, first.json()["id"])["status"] == "cancelled"
    assert not call(ui, f"runs/{first.json()['id']}", "DELETE", headers=token).json()["stopped"]


def test_run_of_an_earlier_server_or_of_a_terminal_can_be_cancelled(
    tmp_path: Path, database: PostgresDatabase, mirror: Path
) -> None:
    def only_run(server: CentralScheduler) -> dict[str, Any]:
        return next((run for run in call(server, "runs").json() if run["status"] == "running" and run["log"]), {})

    with socket.create_server(("127.0.0.1", 0)) as silent_site:
        site = f"http://127.0.0.1:{silent_site.getsockname()[1]}"
        environment = settings(tmp_path, database, mirror) | {"PIPELINE__SOURCE__BASE_URL": site}
        with central_scheduler(environment) as ui:
            token = {"Authorization": f"Bearer {(tmp_path / 'data' / 'ui' / 'token').read_text().strip()}"}
            started = call(ui, "runs", "POST", json=JANUARY, headers=token).json()["id"]
            eventually(lambda: only_run(ui))
        with central_scheduler(environment) as restarted:
            run = only_run(restarted)
            assert run["cancellable"]
            assert call(restarted, f"runs/{started}").json()["log"] == run["log"]
            assert call(restarted, f"runs/{started}1").status_code == 404
            assert call(restarted, f"runs/{run['id']}", "DELETE").status_code == 401
            assert call(restarted, f"runs/{run['id']}", "DELETE", headers=token).json()["stopped"]
            eventually(lambda: not only_run(restarted).get("cancellable"))

            with start_command("luigi", "--module", "pipeline", *FEBRUARY, **environment) as started_by_hand:
                eventually(lambda: only_run(restarted).get("pid") == started_by_hand.pid)
                found = only_run(restarted)["id"]
                assert call(restarted, f"runs/{found}", "DELETE", headers=token).json()["stopped"]
                assert started_by_hand.wait(timeout=20) != 0
            assert not call(restarted, f"runs/{found}", "DELETE", headers=token).json()["stopped"]


def test_run_started_after_a_cancelled_or_killed_one_loads_the_month(
    tmp_path: Path, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02")
    environment = settings(tmp_path, database, mirror) | {
        "PIPELINE__SCHEDULER__WORKER_DISCONNECT_DELAY": "3",
        "PIPELINE__SCHEDULER__RETRY_DELAY": "1",
    }
    with central_scheduler(environment) as ui:
        token = {"Authorization": f"Bearer {(tmp_path / 'data' / 'ui' / 'token').read_text().strip()}"}

        def start(request: dict[str, Any]) -> str:
            return str(call(ui, "runs", "POST", json=request, headers=token).json()["id"])

        def is_loading(run: str) -> bool:
            return "LoadTripdata" in [task["task"] for task in call(ui, f"runs/{run}").json()["tasks"]]

        completed_run(ui, start({**JANUARY, "month": "2019-02"}))
        with lock_held(database, INSERT_JANUARY_MARKER):
            run = start(JANUARY)
            wait_until_blocked(database, "INSERT INTO")
            assert call(ui, f"runs/{run}", "DELETE", headers=token).json()["status"] == "cancelled"
            assert ui.tasks("RUNNING") == {}

            run = start(JANUARY)
            eventually(lambda: is_loading(run))
            os.killpg(int(run.rpartition("-")[2]), signal.SIGKILL)
            eventually(lambda: call(ui, f"runs/{run}").json()["ended"])
        killed = completed_run(ui, run)
        assert (killed["status"], killed["error"]) == ("failed", "the process was ended by SIGKILL")

        done = completed_run(ui, start(JANUARY))
        assert (done["status"], done["exit_code"]) == ("done", 0), done["output"]
        assert any(f"run by process {run.rpartition('-')[2]} on" in line["message"] for line in done["lines"])


def test_run_whose_tasks_another_run_has_done_says_so(
    ui: CentralScheduler, token: dict[str, str], database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02")
    first = call(ui, "runs", "POST", json={**JANUARY, "month": "2019-02"}, headers=token).json()["id"]
    completed_run(ui, first)
    with lock_held(database, INSERT_JANUARY_MARKER):
        first = call(ui, "runs", "POST", json=JANUARY, headers=token).json()["id"]
        wait_until_blocked(database, "INSERT INTO")
        backfill = {"action": "backfill", "dataset": "green", "start": "2019-01", "stop": "2019-01"}
        second = call(ui, "runs", "POST", json={**backfill, "workers": 2}, headers=token).json()["id"]
        eventually(lambda: "waiting for LoadTripdata" in call(ui, f"runs/{second}/log").text)
    assert completed_run(ui, first)["status"] == "done"
    waited = completed_run(ui, second)
    assert (waited["status"], waited["exit_code"]) == ("failed", 10)
    assert waited["error"].startswith("another run is doing, or has done, some of its tasks")


def test_run_ends_when_its_process_ends_and_not_when_it_is_looked_at() -> None:
    with tempfile.TemporaryFile() as output:
        run = StartedRun("", [], subprocess.Popen(["true"]), output)
        run.wait(20)
    ended = run.ended
    time.sleep(0.01)
    assert (run.status, run.ended) == ("done", ended)
    assert ended < timestamp()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo one; echo 10:00 ERROR: no such setting; echo three", "10:00 ERROR: no such setting"),
        ("echo one; echo two; exit 1", "two"),
        ("exit 40", "the process ended with exit code 40, without a message"),
    ],
)
def test_failed_run_without_a_failed_task_has_a_reason(script: str, reason: str) -> None:
    with tempfile.TemporaryFile() as output:
        run = StartedRun("", [], subprocess.Popen(["sh", "-c", f"{script}; exit 1"], stdout=output), output)
        run.wait(20)
        assert (run.status, run.failure) == ("failed", reason)


def test_runs_of_containers_with_the_same_process_id_are_all_listed(
    ui: CentralScheduler, token: dict[str, str], tmp_path: Path
) -> None:
    run = call(ui, "runs", "POST", json=JANUARY, headers=token).json()["id"]
    own = completed_run(ui, run)
    pid, logs = own["pid"], tmp_path / "data" / "logs"
    for second, host in enumerate(("first", "second"), start=1):
        event = {"time": f"2099-01-01T00:00:0{second}.000+00:00", "host": host, "event": "running", "task": "LoadZones"}
        (logs / f"20990101T00000{second}-{pid}.jsonl").write_text(json.dumps(event | {"parameters": {}}) + "\n")

    found = {each["id"]: each for each in call(ui, "runs").json()}
    assert set(found) == {run, f"20990101T000001-{pid}", f"20990101T000002-{pid}"}
    assert found[run] == {name: value for name, value in own.items() if name in found[run]}


@pytest.mark.parametrize("name", ["already_running", "not_run"])
def test_failed_run_is_understood_by_the_configured_exit_codes(name: str) -> None:
    config = luigi.configuration.get_config()
    usual = config.get("retcode", name)
    config.set("retcode", name, "71")
    try:
        with tempfile.TemporaryFile() as output:
            run = StartedRun("", [], subprocess.Popen(["sh", "-c", "exit 71"]), output)
            run.wait(20)
            assert run.failure.startswith("another run is doing, or has done, some of its tasks")
    finally:
        config.set("retcode", name, usual)


def test_run_elsewhere_with_the_process_id_of_a_process_here_is_running_until_it_ends(
    ui: CentralScheduler, tmp_path: Path
) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        log = tmp_path / "data" / "logs" / f"20190101T000000-{other.pid}.jsonl"
        log.parent.mkdir(parents=True)
        event = {"time": timestamp(), "host": "another", "event": "running", "task": "T", "parameters": {}}
        log.write_text(json.dumps(event) + "\n")
        with log.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (running,) = call(ui, "runs").json()
        (ended,) = call(ui, "runs").json()
        other.kill()

    assert (running["status"], ended["status"]) == ("running", "stopped")
    assert not running["cancellable"] and not ended["cancellable"]


_RUN = """
import fcntl, os, sys, time
log = open(f"{sys.argv[1]}/20190101T000000-{os.getpid()}.jsonl", "a")
fcntl.flock(log, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


def test_request_does_not_start_a_run_that_an_earlier_server_or_a_terminal_has_started(
    ui: CentralScheduler, token: dict[str, str], tmp_path: Path
) -> None:
    logs = tmp_path / "data" / "logs"
    logs.mkdir(parents=True)
    # Commands that tests fork do not have the command line of a process that was started.
    command = [sys.executable, "-c", _RUN, str(logs), "--module", "pipeline", *command_of(JANUARY)[1]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as earlier:
        assert earlier.stdout and earlier.stdout.readline()
        same = call(ui, "runs", "POST", json=JANUARY, headers=token)
        other = call(ui, "runs", "POST", json={**JANUARY, "month": "2019-02"}, headers=token)
        earlier.kill()

    assert (same.status_code, same.json()["id"]) == (200, f"20190101T000000-{earlier.pid}")
    assert (other.status_code, other.json()["new"]) == (201, True)


def test_killed_run_is_shown_as_stopped_immediately(
    ui: CentralScheduler, tmp_path: Path, database: PostgresDatabase, mirror: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_site:
        environment = settings(tmp_path, database, mirror) | {
            "PIPELINE__SOURCE__BASE_URL": f"http://127.0.0.1:{silent_site.getsockname()[1]}"
        }
        with start_command("luigi", "--module", "pipeline", *FEBRUARY, **environment) as run:
            eventually(lambda: [each["running"] for each in call(ui, "runs").json()] == [1])
            run.kill()
            run.wait()
        (found,) = call(ui, "runs").json()
        assert (found["status"], found["cancellable"]) == ("stopped", False)


def test_run_is_not_started_without_the_token(unused_ui: CentralScheduler) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert call(unused_ui, "runs", "POST", json=JANUARY, headers=headers).status_code == 401
    assert call(unused_ui, "runs").json() == []


def test_token_is_private_and_stays_the_same_after_a_restart(
    ui: CentralScheduler, token: dict[str, str], tmp_path: Path
) -> None:
    assert (tmp_path / "data" / "ui" / "token").stat().st_mode & 0o777 == 0o600
    assert token["Authorization"].split()[1] in requests.get(ui.url, timeout=10).text
    ui.process.terminate()
    ui.process.wait(20)
    with central_scheduler(ui.settings) as restarted:
        assert call(restarted, "runs", "POST", json={"action": "x"}, headers=token).status_code == 400


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "action: one of load, backfill, build, report, pipeline"),
        ({"action": "load", "dataset": "green", "month": "2019-13"}, "month: "),
        ({"action": "load", "dataset": "green; rm", "month": "2019-01"}, "dataset: one of "),
        ({"action": "load", "dataset": "green", "month": "2019-01", "taxi": "x"}, "taxi: load has no such field"),
        ({"action": "build", "force": True}, "force: build has no such field; it has action, warehouse"),
        ({"action": "backfill", "dataset": "green", "start": "2019-02", "stop": "2019-01"}, "stop: the last month"),
        ({"action": "backfill", "dataset": "green", "start": "2019-01", "stop": "2019-02", "workers": True}, "workers"),
        ({"action": "load", "dataset": "green", "month": "2199-01"}, "month: 2199-01 is in the future"),
        ({**JANUARY, "force": "yes"}, "force: true or false"),
        ([], "the body is not a JSON object"),
    ],
)
def test_invalid_request_is_reported_in_one_line(
    unused_ui: CentralScheduler, unused_token: dict[str, str], body: object, error: str
) -> None:
    answer = call(unused_ui, "runs", "POST", json=body, headers=unused_token)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(error) and "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({**JANUARY}, ["LoadTripdata", "--taxi", "green", "--month", "2019-01", "--force"]),
        (
            {**JANUARY, "action": "pipeline"},
            ["TripdataPipeline", "--taxi", "green", "--month", "2019-01", "--warehouse", "postgres", "--force"],
        ),
        (
            {"action": "backfill", "dataset": "green", "start": "2019-01", "stop": "2019-02"},
            ["RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi": "green", "force": true}'],
        ),
    ],
)
def test_each_action_that_loads_can_load_again(request_: dict[str, object], words: list[str]) -> None:
    _, arguments = command_of({**request_, "force": True})
    assert arguments[: len(words)] == words


@pytest.mark.parametrize("body", ["", "x", "null", "[" * 9_999, '{"action":' * 990, "9" * 9_000, b"\xff"])
def test_request_that_is_no_json_object_is_refused(
    unused_ui: CentralScheduler, unused_token: dict[str, str], body: Any
) -> None:
    answer = call(unused_ui, "runs", "POST", data=body, headers=unused_token)
    assert (answer.status_code, answer.json()) == (400, {"error": "the body is not a JSON object"})


def test_path_of_a_run_cannot_reach_other_files(unused_ui: CentralScheduler) -> None:
    for run in ("..%2F..%2Fetc%2Fpasswd", "20190101T000000-1", "99991231T235959-1", "x"):
        assert call(unused_ui, f"runs/{run}").status_code == 404
        assert call(unused_ui, f"runs/{run}/log").status_code == 404
    assert requests.get(f"{unused_ui.url}report/postgres", timeout=10).status_code == 404
    assert requests.get(f"{unused_ui.url}ui/..%2Fguard.py", timeout=10).status_code in (403, 404)


def test_overview_lists_the_schedules_and_no_alerts_at_first(unused_ui: CentralScheduler) -> None:
    found = call(unused_ui, "overview").json()
    assert {each["dataset"] for each in found["schedules"]} >= {"green", "yellow"}
    assert all(each["next"] and not each["last"] for each in found["schedules"])
    assert found["alerts"] == []
