"""Takes the screenshots: the page on a backfill with a broken month, Luigi's on one whose worker is killed, a report.

Run by `make screenshots`; needs the tests' packages, Pillow, and Chromium (CHROMIUM names another program than
`chromium`). The backfills are of generated months. So is the report, unless REPORT_RELEASES names a folder of released
months and REPORT_MONTHS which of them are there, as START/STOP. Arguments name some of page, backfill and report.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
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
sys.path.append(str(HERE.parents[1] / "tests"))

from browser import Browser, browser  # noqa: E402

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
    steps = {"page": page, "backfill": backfill, "report": report}
    for name in sys.argv[1:] or steps:
        steps[name]()


def page() -> None:
    """The pipeline's page: a backfill that is started from the form and meets a broken month, and what it leaves."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = Path(folder)
        for month in range(1, 13):
            write_month(dataset_named("green"), datetime.date(2019, month, 1), 2_000 * month, root / "releases")
        july = root / "releases" / "green" / "green_tripdata_2019-07.csv.gz"
        july.write_bytes(gzip.compress(gzip.decompress(july.read_bytes()).replace(b",N,", b",N,seven", 1)))
        environment = os.environ | {
            "PIPELINE__STORAGE__ROOT": f"{folder}/data",
            "PIPELINE__SOURCE__BASE_URL": f"{folder}/releases",
        }
        stack.callback(subprocess.run, [BIN / "pipeline", "stop"], env=environment, check=True)
        with central_scheduler(environment), browser() as chromium:
            look_at_page(chromium)
    for name in ("form", "run", "months", "months-dark", "card", "phone"):
        shrink(HERE / f"{name}.png")


def look_at_page(chromium: Browser) -> None:
    """Goes through the page as a person would."""
    chromium.send("Emulation.setScrollbarsHidden", hidden=True)
    chromium.set_screen(1200, 620)
    chromium.go(URL)
    chromium.fill("[name=start]", "2019-01")
    chromium.fill("[name=stop]", "2019-12")
    chromium.set_screen(1200, 260)
    chromium.save_screenshot(HERE / "form.png")
    chromium.set_screen(1200, 620)
    chromium.click("#start button", "Start")
    chromium.until("document.body.innerText.includes('exit code 30')", 240)
    chromium.set_screen(1200, 1250)
    chromium.save_screenshot(HERE / "run.png")
    chromium.set_screen(1200, 620)
    chromium.go(URL)
    chromium.until("!!document.querySelector('.cell.failed')")
    chromium.save_screenshot(HERE / "months.png")
    chromium.set_screen(1200, 620, dark=True)
    chromium.save_screenshot(HERE / "months-dark.png")
    chromium.set_screen(1200, 720)
    chromium.click(".cell.failed")
    chromium.until("document.getElementById('card').open")
    chromium.save_screenshot(HERE / "card.png")
    chromium.set_screen(390, 844, dark=True)
    chromium.go(URL)
    chromium.until("!!document.querySelector('.cell.failed')")
    chromium.save_screenshot(HERE / "phone.png")


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
        with browser() as chromium:
            chromium.send("Emulation.setScrollbarsHidden", hidden=True)
            for name, width, height, dark in (("report", 1400, 1700, False), ("report-dark-phone", 390, 1500, True)):
                chromium.set_screen(width, height, dark)
                chromium.go(f"file://{folder}/data/reports/postgres/index.html")
                chromium.save_screenshot(HERE / f"{name}.png")
                shrink(HERE / f"{name}.png")


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
    shrink(file)


def shrink(file: Path) -> None:
    """128 colours are enough."""
    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main()
