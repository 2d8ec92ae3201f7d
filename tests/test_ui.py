"""`pipeline ui`: Luigi's central scheduler with the project's settings, on loopback, with its history and metrics."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from central import CentralScheduler, central_scheduler, free_port
from conftest import BIN, Run, execute, file_size_limit, settings

from pipeline.errors import PipelineError
from pipeline.files import CENTRAL_SETTINGS
from pipeline.ui import TaskHistory
from pipeline.ui.guard import new_guard
from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")


@pytest.fixture
def ui(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> Iterator[CentralScheduler]:
    with central_scheduler(settings(tmp_path, database, mirror)) as running:
        yield running


def test_startup_message_has_the_addresses_and_a_command_that_works(luigi: Run, ui: CentralScheduler) -> None:
    assert ui.startup_lines[0] == (
        f"The pipeline's page is at {ui.url} (Luigi's: {ui.url}static/visualiser/, history: {ui.url}history,"
        f" metrics: {ui.url}metrics).\n"
    )
    command = next(line for line in ui.startup_lines if "LUIGI_CONFIG_PATH=central.cfg luigi" in line)
    arguments = command.split(" --module pipeline ")[1].split()

    done = luigi("--scheduler-url", ui.url, *arguments, LUIGI_CONFIG_PATH="central.cfg")

    assert done.returncode == 0, done.stderr
    assert {task["name"] for task in ui.tasks("DONE").values()} == {"ExtractTripdata", "LoadTripdata"}


def test_command_names_the_shipped_settings_in_a_folder_without_them(
    tmp_path: Path, database: PostgresDatabase, mirror: Path
) -> None:
    environment = os.environ | settings(tmp_path, database, mirror)
    command = [BIN / "pipeline", "ui", "--port", str(free_port())]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = next(line for line in process.stdout if "LUIGI_CONFIG_PATH=" in line)
        process.terminate()
    assert found.split()[0] == f"LUIGI_CONFIG_PATH={CENTRAL_SETTINGS}"
    assert CENTRAL_SETTINGS.is_file()


def test_history_and_metrics_include_every_run(luigi: Run, ui: CentralScheduler) -> None:
    luigi(*LOAD, **ui.environment)

    recent = requests.get(f"{ui.url}history", timeout=10)
    by_name = requests.get(f"{ui.url}history/by_name/LoadTripdata", timeout=10)
    one = requests.get(f"{ui.url}history/by_id/1", timeout=10)
    metrics = requests.get(f"{ui.url}metrics", timeout=10)

    assert [page.status_code for page in (recent, by_name, one, metrics)] == [200] * 4
    assert all(word in recent.text for word in ("LoadTripdata", "ExtractTripdata", "DONE", "2019-01"))
    assert "LoadTripdata" in by_name.text and "ExtractTripdata" not in by_name.text
    assert 'luigi_task_done_total{family="LoadTripdata"} 1.0' in metrics.text
    assert 'pipeline_rows_total{dataset="green",task="LoadTripdata"} 500' in metrics.text


def test_tasks_and_history_are_kept_after_sigterm_and_a_restart(luigi: Run, ui: CentralScheduler) -> None:
    luigi(*LOAD, **ui.environment)
    ui.process.terminate()
    assert ui.process.wait(timeout=20) == 0

    with central_scheduler(ui.settings) as restarted:
        assert {task["name"] for task in restarted.tasks("DONE").values()} == {"ExtractTripdata", "LoadTripdata"}
        assert "LoadTripdata" in requests.get(f"{restarted.url}history", timeout=10).text


def test_server_works_and_stops_cleanly_after_its_storage_root_is_removed(
    luigi: Run, ui: CentralScheduler, tmp_path: Path
) -> None:
    for again in ([], ["--force"]):  # the second time, the server knows the tasks
        shutil.rmtree(tmp_path / "data")
        luigi(*LOAD, *again, **ui.environment)
        assert "LoadTripdata" in requests.get(f"{ui.url}history", timeout=10).text

    shutil.rmtree(tmp_path / "data")
    ui.process.terminate()
    output, _ = ui.process.communicate(timeout=20)
    assert (ui.process.returncode, output) == (0, "")


def test_history_that_cannot_be_written_is_logged_in_one_line(luigi: Run, ui: CentralScheduler, tmp_path: Path) -> None:
    (tmp_path / "data/ui/history.sqlite").write_bytes(b"no database" * 100)

    assert luigi(*LOAD, **ui.environment).returncode == 0
    ui.process.terminate()
    output, _ = ui.process.communicate(timeout=20)
    assert {line.partition(":")[0] for line in output.splitlines()} == {"[ui] history"}, output
    assert "LoadTripdata cannot be recorded: file is not a database\n" in output


@pytest.mark.parametrize(
    ("content", "size", "reason"), [(b"", 0, ""), (b"no database" * 100, 1 << 30, "file is not a")]
)
def test_history_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, size: int, reason: str) -> None:
    file = tmp_path / "history.sqlite"
    file.write_bytes(content)
    with file_size_limit(size), pytest.raises(PipelineError) as error:
        TaskHistory(f"sqlite:///{file}")
    assert str(error.value).startswith(f"{file}: {reason}")
    remedy = "free some space if the disk is full, delete it if it is damaged, or check [ui] history"
    assert str(error.value).endswith(f"; {remedy}")


def test_token_file_is_private_and_written_again_if_it_is_removed(tmp_path: Path) -> None:
    guard = new_guard("127.0.0.1", False, [], tmp_path / "ui")
    shutil.rmtree(tmp_path / "ui")
    guard.save_token()

    assert guard.token_file.stat().st_mode & 0o777 == 0o600
    assert new_guard("127.0.0.1", False, [], tmp_path / "ui") == guard


def test_history_can_be_stored_in_postgresql(
    luigi: Run, tmp_path: Path, database: PostgresDatabase, mirror: Path
) -> None:
    execute(database, f"CREATE SCHEMA {database.schema}")
    url = f"{database.dsn}&options=-csearch_path%3D{database.schema}"
    with central_scheduler(settings(tmp_path, database, mirror) | {"PIPELINE__UI__HISTORY": url}) as ui:
        luigi(*LOAD, **ui.environment)
        assert "LoadTripdata" in requests.get(f"{ui.url}history", timeout=10).text

    events = (
        "SELECT event_name FROM task_events JOIN tasks ON tasks.id = task_events.task_id WHERE name = %s ORDER BY ts"
    )
    assert [name for (name,) in execute(database, events, "LoadTripdata")] == ["PENDING", "RUNNING", "DONE"]
    assert not (tmp_path / "data" / "ui" / "history.sqlite").exists()


def test_address_reachable_from_other_machines_is_refused_without_expose(pipeline: Run) -> None:
    for address in ("0.0.0.0", "::", "192.0.2.7"):
        refused = pipeline("ui", "--address", address)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"pipeline: {address} can be reached from other machines")
        assert "--expose" in refused.stderr and refused.stderr.count("\n") == 1


def test_exposed_address_is_served_with_a_warning(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> None:
    with central_scheduler(settings(tmp_path, database, mirror), "--address", "0.0.0.0", "--expose") as ui:
        assert "keep it behind a firewall" in "".join(ui.startup_lines)
        assert requests.head(ui.url, timeout=10).status_code == 204


@pytest.mark.parametrize(
    ("options", "environment", "problem"),
    [
        (("--address", "192.0.2.7", "--expose"), {}, "192.0.2.7:8082: Cannot assign requested address; choose another"),
        (("--address", "no-such-host.invalid"), {}, "no-such-host.invalid: "),
        ((), {"PIPELINE__UI__HISTORY": "nonsense"}, "[ui] history: Could not parse"),
        (
            (),
            {"PIPELINE__UI__HISTORY": "postgresql://me:s3cret@localhost:9/x"},
            "[ui] history: connection to server",
        ),
    ],
)
def test_invalid_address_or_history_is_reported_in_one_line(
    pipeline: Run, options: tuple[str, ...], environment: dict[str, str], problem: str
) -> None:
    refused = pipeline("ui", *options, **environment)

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"pipeline: {problem}")
    assert refused.stderr.count("\n") == 1
    assert "s3cret" not in refused.stderr


def test_invalid_port_is_refused(pipeline: Run) -> None:
    for port in ("0", "99999"):
        failed = pipeline("ui", "--port", port)
        assert (failed.returncode, failed.stderr) == (
            1,
            f"pipeline: --port {port}: a port is a number from 1 to 65535\n",
        )
    failed = pipeline("ui", PIPELINE__UI__PORT="99999")
    assert (failed.returncode, failed.stderr) == (1, "pipeline: [ui] port 99999: a port is a number from 1 to 65535\n")


def test_port_in_use_is_reported_with_a_remedy(pipeline: Run, ui: CentralScheduler) -> None:
    refused = pipeline("ui", "--port", str(ui.port))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Address already in use; choose another with --port or --address\n" in refused.stderr


def test_missing_central_scheduler_is_reported_with_a_remedy(luigi: Run) -> None:
    failed = luigi(
        *LOAD,
        LUIGI_CONFIG_PATH="central.cfg",
        PIPELINE__CORE__RPC_RETRY_ATTEMPTS="1",
        PIPELINE__CORE__SCHEDULER_URL=f"http://127.0.0.1:{free_port()}/",
    )

    assert failed.returncode == 40
    assert "start it with `pipeline ui`" in failed.stderr
    assert "Traceback" not in failed.stderr and "Warning" not in failed.stderr
