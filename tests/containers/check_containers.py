"""Runs the commands of docs/containers.md with a real container engine (`make containers`).

Each check relies on the ones before it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import PGADMIN, Stack, eventually, new_stack

MAX_BYTES_ABOVE_BASE = 450e6
LONG_RUNNING = ("postgres", "luigid", "scheduler")
AS_ROOT = () if os.geteuid() == 0 else ("sudo", "-n")
# For control groups of version 2, or of version 1.
PEAK = "cd /sys/fs/cgroup && cat memory.peak 2>/dev/null || cat memory/memory.max_usage_in_bytes"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with new_stack() as stack:
        started = time.monotonic()
        stack.run_documented("docker compose up --build --detach --wait")
        print(f"\nthe image was built and the services were started in {time.monotonic() - started:.0f} s")
        stack.publish("2019-01")
        yield stack


def test_web_pages_respond(stack: Stack) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports['LUIGID_PORT']}/metrics", timeout=10) as response:
        assert response.status == 200
    if not stack.has_pgadmin:
        pytest.skip(f"{PGADMIN} cannot be pulled here")
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports['PGADMIN_PORT']}/misc/ping", timeout=10) as response:
        assert response.read() == b"PING"


def test_server_is_healthy_only_with_the_password_of_the_services(stack: Stack) -> None:
    kind, *check = stack.inspect("postgres")["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    stack.compose("exec", "-T", "postgres", *check)
    refused = stack.compose("exec", "-T", "--env", "PGPASSWORD=another", "postgres", *check, code=2)
    assert "password authentication failed" in refused


def test_image_does_not_exceed_its_size_limit(stack: Stack) -> None:
    added = stack.size_above_base()
    print(f"\nthe image is {added / 1e9:.2f} GB larger than its base", end="")
    assert added < MAX_BYTES_ABOVE_BASE


def test_month_is_loaded_once(stack: Stack) -> None:
    load = "docker compose run --rm pipeline LoadTripdata --taxi green --month 2019-01"
    stack.run_documented(load)
    assert stack.sql("SELECT count(*) FROM green_tripdata") == "10000"
    finished = stack.sql("SELECT finished_at FROM load_ledger")
    stack.run_documented(load)
    assert stack.sql("SELECT finished_at FROM load_ledger") == finished
    assert "10,000" in stack.run_documented("docker compose exec scheduler pipeline status")


def test_month_is_loaded_modelled_and_reported(stack: Stack) -> None:
    stack.run_documented(
        "docker compose run --rm pipeline TripdataPipeline --taxi green --month 2019-01 --warehouse postgres"
    )
    assert int(stack.sql("SELECT count(*) FROM fact_trips")) > 5000

    stack.run_documented("docker compose cp scheduler:/data/reports .")
    assert "2019-01" in (stack.folder / "reports" / "postgres" / "index.html").read_text()


def test_two_workers_share_a_range(stack: Stack) -> None:
    stack.publish("2019-02", "2019-03", "2019-04", "2019-05")
    months = ("--of-params", '{"taxi":"green"}', "--start", "2019-01", "--stop", "2019-06")
    run = ("run", "--rm", "-T", "pipeline", "RangeMonthly", "--of", "LoadTripdata", *months)
    workers = [stack.start(*run) for _ in range(2)]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]

    assert {worker.returncode for worker in workers} <= {0, 10, 25}, outputs
    assert stack.sql("SELECT count(*), count(DISTINCT filename) FROM green_tripdata") == "50000|5"
    stack.compose(*run)


def test_run_after_kill_9_loads_the_month(stack: Stack) -> None:
    stack.publish("2019-06")
    load = ("LoadTripdata", "--taxi", "green", "--month", "2019-06")
    with stack.ledger_held():
        killed = stack.start("run", "--name", f"{stack.project}-killed", "-T", "pipeline", *load)
        stack.until_it_waits()
        subprocess.run(["docker", "kill", f"{stack.project}-killed"], check=True, capture_output=True)
        killed.communicate(timeout=60)
    subprocess.run(["docker", "rm", f"{stack.project}-killed"], check=True, capture_output=True)
    assert killed.returncode == 137
    assert stack.sql("SELECT count(*) FROM green_tripdata WHERE filename LIKE '%2019-06%'") == "0"
    time.sleep(3)

    started = time.monotonic()
    again = stack.start("run", "--rm", "-T", "pipeline", *load)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "waiting for LoadTripdata(taxi=green, month=2019-06), run by process " in output
    print(f"\nloaded {time.monotonic() - started:.0f} s after the restart", end="")
    assert stack.sql("SELECT count(*) FROM green_tripdata WHERE filename LIKE '%2019-06%'") == "10000"


def test_schedule_starts_a_load_and_stops_only_when_it_has_ended(stack: Stack) -> None:
    stack.publish("2019-07")
    stack.compose("stop", "scheduler")
    missed = "mkdir -p /data/schedule && printf 2026-01-02T00:00:00+00:00 >/data/schedule/green"
    stack.compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "pipeline", "-ec", missed)
    with stack.ledger_held():
        stack.compose("start", "scheduler")
        stack.until_it_waits()
        stopping = stack.start("stop", "scheduler")
        time.sleep(2)
        assert stopping.poll() is None
    stopping.communicate(timeout=120)

    assert stack.sql("SELECT count(*) FROM green_tripdata WHERE filename LIKE '%2019-07%'") == "10000"
    (state,) = stack.compose("ps", "--all", "--format", "{{.ExitCode}}", "scheduler").split()
    assert state == "0"
    stack.compose("up", "--detach", "--wait", "scheduler")


@pytest.mark.parametrize("service", [*LONG_RUNNING, "pgadmin"])
def test_service_is_hardened(stack: Stack, service: str) -> None:
    if service == "pgadmin" and not stack.has_pgadmin:
        pytest.skip(f"{PGADMIN} cannot be pulled here")
    found = stack.inspect(service)
    status = dict(re.findall(r"^(\w+):\s+(.*)$", stack.compose("exec", "-T", service, "cat", "/proc/1/status"), re.M))

    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert found["HostConfig"]["ReadonlyRootfs"] == (service != "pgadmin")
    given = [binding["HostIp"] for ports in found["NetworkSettings"]["Ports"].values() for binding in ports or []]
    assert set(given) <= {"127.0.0.1"}
    del found["Config"]["Env"]
    assert not [password for password in stack.passwords if password in str(found)]


def test_memory_stays_within_its_limit(stack: Stack) -> None:
    for service in LONG_RUNNING:
        found = stack.inspect(service)
        limit = found["HostConfig"]["Memory"]
        peak = int(stack.compose("exec", "-T", service, "sh", "-c", PEAK).split()[0])
        print(f"\n{service}: {peak / 1e6:.0f} MB at most, with a limit of {limit / 1e6:.0f} MB", end="")
        assert 0 < peak <= limit
        assert not found["State"]["OOMKilled"] and found["RestartCount"] == 0
    stack.publish("2019-08")
    task = "luigi --module pipeline TripdataPipeline --taxi green --month 2019-08 --warehouse postgres"
    run = ("run", "--rm", "-T", "--entrypoint", "sh", "pipeline", "-ec", f"{task} >&2; {PEAK}")
    print(f"\npipeline: {int(stack.compose(*run)) / 1e6:.0f} MB at most including dbt, with a limit of 1074 MB", end="")


@pytest.mark.parametrize("volume", ["the same", "a new"])
def test_backup_can_be_restored_into_a_volume(stack: Stack, volume: str) -> None:
    rows = "SELECT (SELECT count(*) FROM green_tripdata), (SELECT sum(total_amount) FROM fact_trips)"
    before = stack.sql(rows)
    stack.compose("stop", "scheduler")
    stack.run_documented("docker compose exec -T postgres pg_dump --username=postgres --format=custom taxi > taxi.dump")
    if volume == "a new":
        stack.compose("down", "--volumes")
        stack.compose("up", "--detach", "--wait", "postgres", "luigid")
    else:
        stack.sql("DROP TABLE green_tripdata CASCADE")
    restore = "pg_restore --username=postgres --dbname=taxi --clean --if-exists --single-transaction < taxi.dump"
    stack.run_documented(f"docker compose exec -T postgres {restore}")

    assert stack.sql(rows) == before
    stack.luigi("LoadTripdata", "--taxi", "green", "--month", "2019-01")
    assert stack.sql(rows) == before


def test_data_survive_down_and_up_and_no_images_are_left_over(stack: Stack) -> None:
    before = stack.sql("SELECT count(*) FROM green_tripdata")
    dangling = ["docker", "image", "ls", "--quiet", "--filter", "dangling=true"]
    images = subprocess.run(dangling, capture_output=True, text=True, check=True).stdout
    stack.run_documented("docker compose down")
    stack.run_documented("docker compose up --build --detach --wait")

    assert stack.sql("SELECT count(*) FROM green_tripdata") == before
    assert subprocess.run(dangling, capture_output=True, text=True, check=True).stdout == images


@pytest.mark.skipif(os.geteuid() != 0 and not shutil.which("sudo"), reason="needs root, or sudo")
def test_postgres_can_use_a_folder_of_the_user(stack: Stack) -> None:
    folder = Path(f"/var/tmp/{stack.project}")
    stack.run_documented("docker compose down")
    subprocess.run([*AS_ROOT, "install", "-d", "-o", "999", "-g", "999", "-m", "700", folder], check=True)
    try:
        stack.set(POSTGRES_FOLDER=str(folder))
        stack.compose("up", "--detach", "--wait", "postgres")
        eventually(lambda: stack.sql("SELECT current_database()") == "taxi")
        found = subprocess.run([*AS_ROOT, "find", folder, "-name", "PG_VERSION"], capture_output=True, check=True)
        assert found.stdout
        stack.run_documented("docker compose down")
    finally:
        stack.set(POSTGRES_FOLDER="postgres")
        subprocess.run([*AS_ROOT, "rm", "-r", folder], check=True)


def test_image_with_the_google_extra_has_its_libraries(stack: Stack) -> None:
    without = stack.size_above_base()
    stack.set(EXTRAS="gcp")
    stack.compose("build", "luigid")
    imports = "import dbt.adapters.bigquery, google.cloud.storage, pipeline.warehouses.bigquery.warehouse"
    stack.compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "python", "pipeline", "-c", imports)

    added = stack.size_above_base()
    print(f"\nwith EXTRAS=gcp the image is {added / 1e9:.2f} GB larger than its base", end="")
    assert added > without
