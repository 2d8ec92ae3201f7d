"""Takes the screenshots: Luigi's page on a backfill by two workers, one of which is killed, and the top of a report.

Run by `make screenshots`; needs Pillow and Chromium (CHROMIUM names another program than `chromium`). The backfill is
of generated months. So is the report, unless REPORT_RELEASES names a folder of released months and REPORT_MONTHS which
of them are there, as START/STOP.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from PIL import Image

from pipeline.datasets import dataset_named
from pipeline.sample import write_month, write_zones

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PORT = 8099
URL = f"http://127.0.0.1:{PORT}/"
BACKFILL = ["RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi":"green"}', "--start", "2019-01"]
PAGE = "static/visualiser/index.html#family=LoadTripdata&length=25&order=4,asc"
CHROMIUM = [
    *(os.environ.get("CHROMIUM", "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-sync", "--virtual-time-budget=15000"),
]


def main() -> None:
    """Leaves PNG files beside this one."""
    backfill()
    report()


def backfill() -> None:
    """Luigi's page on twelve months."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        environment = os.environ | {
            "PIPELINE__STORAGE__ROOT": f"{folder}/data",
            "PIPELINE__SOURCE__BASE_URL": f"{folder}/releases",
            "PIPELINE__CORE__SCHEDULER_URL": URL,
            "LUIGI_CONFIG_PATH": "central.cfg",
        }
        for month in range(1, 13):
            write_month(dataset_named("green"), datetime.date(2019, month, 1), 200_000, Path(folder) / "releases")
        stack.callback(subprocess.run, [BIN / "pipeline", "stop"], env=environment, check=True)
        with central_scheduler(environment):
            backfill_with_a_death(environment)
            photograph(URL + PAGE, HERE / "tasks.png", 1390, folder)


def report() -> None:
    """The top of a report."""
    start, stop = os.environ.get("REPORT_MONTHS", "2019-01/2020-01").split("/")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        releases = os.environ.get("REPORT_RELEASES")
        if not releases:
            releases = f"{folder}/releases"
            write_zones(Path(releases))
            for month in range(1, 13):
                write_month(dataset_named("green"), datetime.date(2019, month, 1), 50_000, Path(releases))
        environment = os.environ | {"PIPELINE__STORAGE__ROOT": f"{folder}/data", "PIPELINE__SOURCE__BASE_URL": releases}
        stack.callback(subprocess.run, [BIN / "pipeline", "stop"], env=environment, check=True)
        for command in ([*BACKFILL[:-1], start, "--stop", stop], ["Report", "--warehouse", "postgres"]):
            subprocess.run([BIN / "luigi", "--module", "pipeline", *command], env=environment, check=True)
        photograph(f"file://{folder}/data/reports/postgres/index.html", HERE / "report.png", 1700, folder)


@contextlib.contextmanager
def central_scheduler(environment: dict[str, str]) -> Iterator[None]:
    """A `pipeline ui` until the block ends."""
    ui = subprocess.Popen([BIN / "pipeline", "ui", "--port", str(PORT)], env=environment, stdout=subprocess.PIPE)
    assert ui.stdout
    ui.stdout.readline()
    try:
        yield
    finally:
        ui.terminate()
        ui.wait()


def backfill_with_a_death(environment: dict[str, str]) -> None:
    """Loads twelve months by two workers, of which one is killed in the midst of a load."""
    command = [BIN / "luigi", "--module", "pipeline", *BACKFILL, "--stop", "2020-01"]
    workers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    while not (victim := next((worker for worker in workers if is_loading(worker, "2019-08")), None)):
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    for worker in workers:
        worker.wait()


def is_loading(worker: subprocess.Popen[bytes], month: str) -> bool:
    """Whether a worker has the load of a month at hand."""
    tasks = requests.get(f"{URL}api/task_list", {"data": '{"status": "RUNNING"}'}, timeout=10).json()["response"]
    return any(
        task["display_name"].startswith("LoadTripdata(")
        and task["params"]["month"] == month
        and f"pid={worker.pid})" in task["worker_running"]
        for task in tasks.values()
    )


def photograph(url: str, file: Path, height: int, folder: str) -> None:
    """Saves a page as Chromium shows it."""
    options = [f"--user-data-dir={folder}/chromium", f"--window-size=1400,{height}", f"--screenshot={file}"]
    subprocess.run([*CHROMIUM, *options, url], check=True, capture_output=True, timeout=120)
    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main()
