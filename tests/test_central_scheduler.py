"""What a luigid shows of the tasks that are sent to it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Run

Ask = Callable[..., Any]


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[str]:
    """The URL of a central scheduler on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [BIN / "luigid", "--address", "127.0.0.1", "--port", str(port), "--state-path", str(tmp_path / "state")],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/"
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture
def ask(luigid: str) -> Ask:
    """Asks the scheduler's API, as its own pages do."""

    def run(method: str, **arguments: Any) -> Any:
        query = urllib.parse.urlencode({"data": json.dumps(arguments)})
        with urllib.request.urlopen(f"{luigid}api/{method}?{query}", timeout=10) as answer:
            return json.load(answer)["response"]

    return run


def central(luigid: str) -> dict[str, str]:
    return {"PIPELINE__CORE__LOCAL_SCHEDULER": "false", "PIPELINE__CORE__SCHEDULER_URL": luigid}


def test_pages_of_tasks_say_what_came_of_them(luigi: Run, luigid: str, ask: Ask) -> None:
    done = luigi("LoadTripdata", "--taxi", "green", "--month", "2019-01", **central(luigid))

    assert done.returncode == 0, done.stderr
    found = ask("task_list", status="DONE", upstream_status="")
    tasks = {task["name"]: {"task_id": task_id} | task for task_id, task in found.items()}
    assert "500 rows, verified" in tasks["ExtractTripdata"]["status_message"]
    assert tasks["LoadTripdata"]["status_message"].startswith("green/2019-01: 500 rows loaded into green_tripdata")
    assert tasks["LoadTripdata"]["params"]["month"] == "2019-01"
    progress = ask("get_task_progress_percentage", task_id=tasks["LoadTripdata"]["task_id"])
    assert progress["progressPercentage"] == 100


def test_error_of_a_task_is_one_line(luigi: Run, luigid: str, ask: Ask) -> None:
    done = luigi("LoadTripdata", "--taxi", "green", "--month", "2018-12", **central(luigid))

    assert done.returncode == 30
    (failed,) = ask("task_list", status="FAILED", upstream_status="")
    error = json.loads(ask("fetch_error", task_id=failed)["error"])
    assert error.startswith("green 2018-12 does not exist at ")
    assert "\n" not in error
