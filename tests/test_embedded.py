"""The embedded PostgreSQL, as users meet it: through commands, in a storage root of its own, with no DSN."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import run_command, start_command
from waiting import eventually

from pipeline.warehouses.postgres.embedded import stop

COUNT = ("psql", "-c", "SELECT count(*) FROM green_tripdata")
LOAD = ("--module", "pipeline", "LoadTripdata", "--taxi", "green", "--month", "2019-01")
Root = Callable[..., tuple[Path, dict[str, str]]]


@pytest.fixture
def fresh(mirror: Path) -> Iterator[Root]:
    """Makes storage roots with no server yet, and the environment that points commands there."""
    roots = []
    # Not below tmp_path, for the reason given at the fixture `server`.
    folder = tempfile.TemporaryDirectory(prefix="pipeline-test-")

    def make(name: str = "data", **environment: str) -> tuple[Path, dict[str, str]]:
        root = Path(folder.name) / name
        roots.append(root)
        variables = {
            "PIPELINE__STORAGE__ROOT": str(root),
            "PIPELINE__POSTGRES__DSN": "",
            "PIPELINE__SOURCE__BASE_URL": str(mirror),
        }
        return root, variables | environment

    yield make
    for root in roots:
        stop(root / "postgres")
    folder.cleanup()


def test_server_is_started_reused_stopped_and_started_again_with_its_data(fresh: Root) -> None:
    root, environment = fresh()

    assert run_command("luigi", *LOAD, **environment).returncode == 0
    first = postmaster(root)
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert postmaster(root) == first

    assert "has stopped" in run_command("pipeline", "stop", **environment).stdout
    assert postmasters(root) == []
    assert "was not running" in run_command("pipeline", "stop", **environment).stdout

    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert postmaster(root) != first


def test_libpqs_variables_are_about_other_servers(fresh: Root) -> None:
    _, environment = fresh()
    others = {"PGPORT": "5433", "PGHOSTADDR": "127.0.0.1", "PGSERVICE": "none", "PGOPTIONS": "-c work_mem=1"}

    assert run_command("luigi", *LOAD, **environment, **others).returncode == 0
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout


def test_two_commands_at_once_on_a_fresh_root_share_one_server(fresh: Root) -> None:
    root, environment = fresh()
    commands = [start_command("luigi", *LOAD, **environment) for _ in range(2)]
    outputs = [command.communicate(timeout=100)[0] for command in commands]

    assert [command.returncode for command in commands] == [0, 0], outputs
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert len(postmasters(root)) == 1


def test_server_stops_itself_when_nobody_uses_it(fresh: Root) -> None:
    root, environment = fresh(PIPELINE__POSTGRES__IDLE_MINUTES="0.02")
    assert run_command("pipeline", "status", **environment).returncode == 0
    assert len(postmasters(root)) == 1

    eventually(lambda: postmasters(root) == [])
    assert run_command("pipeline", "status", **environment).returncode == 0


def test_killed_server_is_started_again_with_its_data(fresh: Root) -> None:
    root, environment = fresh()
    run_command("luigi", *LOAD, **environment)
    os.kill(postmaster(root), signal.SIGKILL)

    again = run_command("pipeline", *COUNT, **environment)
    assert again.returncode == 0 and "500" in again.stdout, again.stderr


def test_pid_file_whose_number_now_belongs_to_another_process_is_survived(fresh: Root) -> None:
    root, environment = fresh()
    run_command("pipeline", "status", **environment)
    files = [root / "postgres" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock")]
    lines = {file: file.read_text().splitlines() for file in files}
    run_command("pipeline", "stop", **environment)
    for file in files:  # as after a crash and a reboot
        file.write_text("\n".join([str(os.getppid()), *lines[file][1:]]) + "\n")

    status = run_command("pipeline", "status", **environment)
    assert status.returncode == 0, status.stderr


def test_folder_removed_under_a_running_server_gets_a_new_server(fresh: Root) -> None:
    root, environment = fresh()
    run_command("luigi", *LOAD, **environment)
    old = postmaster(root)
    (root / "postgres").rename(root / "removed")

    assert "Nothing is loaded" in run_command("pipeline", "status", **environment).stdout
    assert old not in postmasters(root)


@pytest.mark.parametrize("name", ["with space and 'quote'", "comma,comma", "deep/" + "x" * 100], ids=lambda n: n[:10])
def test_any_storage_path_will_do(fresh: Root, name: str) -> None:
    root, environment = fresh(name)

    loaded = run_command("luigi", *LOAD, **environment)
    assert loaded.returncode == 0, loaded.stderr
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout

    socket_folder = Path((root / "postgres" / "postmaster.pid").read_text().splitlines()[4])
    assert socket_folder.stat().st_mode & 0o077 == 0  # as the server asks nobody for a password
    run_command("pipeline", "stop", **environment)
    assert list(socket_folder.glob("*PGSQL*")) == []
    assert socket_folder == root / "postgres" or not socket_folder.exists()


def test_root_relative_to_the_current_folder_works(fresh: Root) -> None:
    root, environment = fresh()
    environment["PIPELINE__STORAGE__ROOT"] = os.path.relpath(root, Path(__file__).parents[1])

    assert run_command("luigi", *LOAD, **environment).returncode == 0
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert postmaster(root)


def test_server_that_cannot_start_is_explained_in_one_line(fresh: Root) -> None:
    root, environment = fresh()
    (root / "postgres").mkdir(parents=True)
    (root / "postgres" / "something else").touch()

    status = run_command("pipeline", "status", **environment)
    assert status.returncode == 1
    assert status.stderr.startswith(f"pipeline: the embedded PostgreSQL in {root / 'postgres'} does not start")
    assert (root / "postgres" / "something else").exists()


def postmaster(root: Path) -> int:
    return int((root / "postgres" / "postmaster.pid").read_text().split()[0])


def postmasters(root: Path) -> list[int]:
    """The processes that serve a root, by what the system says."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if "-D" in command and str(root / "postgres") in command:
                found.append(process.pid)
    return found
