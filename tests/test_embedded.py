"""The embedded PostgreSQL, as users meet it: through commands, in a storage root of its own, with no DSN."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg2
import pytest
from conftest import BIN, CHECKOUT, run_command, start_command
from waiting import eventually

from pipeline.warehouses.postgres import embedded_programs
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.embedded import ensure_running, last_use_file, server_lock, stop, watch
from pipeline.warehouses.postgres.embedded_server import EmbeddedServer

COUNT = ("psql", "-c", "SELECT count(*) FROM green_tripdata")
LOAD = ("--module", "pipeline", "LoadTripdata", "--taxi", "green", "--month", "2019-01")
Root = Callable[..., tuple[Path, dict[str, str]]]

USE = ("psql", "-c", "SELECT 1")  # starts the server, which `status` does for an existing database only


@pytest.fixture(scope="module")
def new_server() -> Iterator[Path]:
    """The data folder of a new server that was never started."""
    with tempfile.TemporaryDirectory(prefix="pipeline-test-") as folder:
        EmbeddedServer(Path(folder) / "postgres").create()
        yield Path(folder) / "postgres"


@pytest.fixture
def made(fresh: Root, new_server: Path) -> Root:
    """Makes storage roots with a server that was never started, as a copy is made in less time."""

    def make(name: str = "data", **environment: str) -> tuple[Path, dict[str, str]]:
        root, variables = fresh(name, **environment)
        root.mkdir(parents=True)
        subprocess.run(["cp", "-a", new_server, root / "postgres"], check=True)
        return root, variables

    return make


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


def test_server_stops_itself_when_nobody_uses_it(made: Root) -> None:
    root, environment = made(PIPELINE__POSTGRES__IDLE_MINUTES="0.02")
    assert run_command("pipeline", *USE, **environment).returncode == 0
    assert len(postmasters(root)) == 1

    eventually(lambda: postmasters(root) == [])
    assert run_command("pipeline", *USE, **environment).returncode == 0


def test_killed_server_is_started_again_with_its_data(made: Root) -> None:
    root, environment = made()
    run_command("luigi", *LOAD, **environment)
    os.kill(postmaster(root), signal.SIGKILL)

    again = run_command("pipeline", *COUNT, **environment)
    assert again.returncode == 0 and "500" in again.stdout, again.stderr


def test_pid_file_whose_number_now_belongs_to_another_process_is_survived(made: Root) -> None:
    root, environment = made()
    run_command("pipeline", *USE, **environment)
    files = [root / "postgres" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock")]
    lines = {file: file.read_text().splitlines() for file in files}
    run_command("pipeline", "stop", **environment)
    for file in files:  # as after a crash and a reboot
        file.write_text("\n".join([str(os.getppid()), *lines[file][1:]]) + "\n")

    status = run_command("pipeline", *USE, **environment)
    assert status.returncode == 0, status.stderr


def test_folder_removed_under_a_running_server_gets_a_new_server(made: Root) -> None:
    root, environment = made()
    run_command("luigi", *LOAD, **environment)
    old = postmaster(root)
    shutil.rmtree(root / "postgres")

    assert run_command("pipeline", *USE, **environment).returncode == 0
    new = postmaster(root)
    assert new != old
    # By itself, it looks for its folder once a minute. Its end must not take the new server's socket along.
    os.kill(old, signal.SIGQUIT)
    eventually(lambda: not psutil.pid_exists(old))
    assert run_command("pipeline", *USE, **environment).returncode == 0
    assert postmaster(root) == new


def test_server_whose_socket_is_gone_is_started_again(fresh: Root) -> None:
    root, environment = fresh()
    run_command("luigi", *LOAD, **environment)
    old = postmaster(root)
    (root / "postgres" / ".s.PGSQL.5432").unlink()

    again = run_command("pipeline", *COUNT, **environment)
    assert again.returncode == 0 and "500" in again.stdout, again.stderr
    assert postmaster(root) != old


@pytest.mark.parametrize(
    "name",
    ["with space and 'quote'", "comma,comma", "deep/" + "x" * 100, 'double"quote', "back`tick`s", "$HOME and $(id)"],
    ids=lambda name: name[:10],
)
def test_any_storage_path_will_do(fresh: Root, name: str) -> None:
    root, environment = fresh(name)

    used = run_command("pipeline", *USE, **environment)
    assert used.returncode == 0, used.stderr
    psycopg2.connect(ensure_running(root / "postgres")).close()

    socket_folder = sockets(root)
    assert socket_folder.stat().st_mode & 0o077 == 0  # as the server asks nobody for a password
    assert stop(root / "postgres")
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

    status = run_command("pipeline", *USE, **environment)
    assert status.returncode == 1
    assert status.stderr.startswith(f"pipeline: the embedded PostgreSQL in {root / 'postgres'} does not start")
    assert (root / "postgres" / "something else").exists()


def test_copied_folder_has_a_server_of_its_own(made: Root, fresh: Root) -> None:
    root, environment = made()
    copy, copys = fresh("copy")
    assert run_command("luigi", *LOAD, **environment).returncode == 0
    original = postmaster(root)
    run_command("pipeline", "psql", "-c", "CHECKPOINT", **environment)
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".s.PGSQL.5432"))
    for path in [copy / "postgres", *(copy / "postgres").rglob("*")]:
        shutil.chown(path, (root / "postgres").stat().st_uid)

    assert "was not running" in run_command("pipeline", "stop", **copys).stdout
    forgotten = run_command("pipeline", "forget", "--taxi", "green", "--month", "2019-01", **copys)
    assert forgotten.returncode == 0, forgotten.stderr
    assert " 0\n" in run_command("pipeline", *COUNT, **copys).stdout
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert "has stopped" in run_command("pipeline", "stop", **copys).stdout
    assert postmasters(root) == [original]


def test_socket_of_a_long_path_is_where_nobody_else_can_prepare_it(made: Root, tmp_path: Path) -> None:
    (tmp_path / "runtime").symlink_to(tmp_path)
    root, environment = made("x" * 100, TMPDIR=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path / "runtime"))

    found = []
    for _ in range(2):
        assert run_command("pipeline", *USE, **environment).returncode == 0
        found.append(sockets(root))
        assert stat.S_IMODE(found[-1].lstat().st_mode) == 0o700
        assert found[-1].lstat().st_uid == (root / "postgres").stat().st_uid
        # tmp_path is root's own, where root's server cannot be.
        assert found[-1].parent == (Path("/tmp") if os.geteuid() == 0 else tmp_path)
        run_command("pipeline", "stop", **environment)
    assert found[0] != found[1], "a name that can be foreseen"
    assert not any(folder.exists() for folder in found)


def test_socket_folder_that_others_can_enter_is_not_believed(made: Root) -> None:
    root, environment = made("x" * 100)
    run_command("pipeline", *USE, **environment)
    prepared = sockets(root)
    prepared.chmod(0o777)

    assert EmbeddedServer((root / "postgres").resolve()).dsn() is None
    prepared.chmod(0o700)
    assert EmbeddedServer((root / "postgres").resolve()).dsn()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server is another user")
def test_root_changes_no_mode_of_any_folder_above(fresh: Root, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    root, environment = fresh(str(closed / "deep" / "data"))
    before = {folder: folder.stat().st_mode for folder in root.parents if folder.exists()}

    assert run_command("luigi", *LOAD, **environment).returncode == 0
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    run_command("pipeline", "stop", **environment)
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert {folder: folder.stat().st_mode for folder in before} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server is another user")
def test_programs_that_the_servers_user_cannot_run_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "install" / "bin").mkdir(parents=True, mode=0o700)
    (closed / "install" / "bin" / "initdb").write_text("#!/bin/sh\necho runs\n")
    (closed / "install" / "bin" / "initdb").chmod(0o700)
    monkeypatch.setattr(embedded_programs, "_wheel_programs", lambda: closed / "install" / "bin")
    with tempfile.TemporaryDirectory() as open_folder:
        Path(open_folder).chmod(0o755)
        monkeypatch.setattr(embedded_programs, "_PROGRAMS_FOR_ROOT", Path(open_folder) / "programs")
        programs = [embedded_programs._programs(embedded_programs.ServerUser(65534, 65534)) for _ in range(2)]
        said = subprocess.run([programs[1] / "initdb"], user=65534, group=65534, capture_output=True, check=True)
    assert (programs[0], said.stdout) == (programs[1], b"runs\n")


def test_copied_programs_find_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_programs, "is_world_accessible", lambda _: False)
    with tempfile.TemporaryDirectory() as open_folder:
        Path(open_folder).chmod(0o755)
        monkeypatch.setattr(embedded_programs, "_PROGRAMS_FOR_ROOT", Path(open_folder) / "programs")
        initdb = embedded_programs._programs(embedded_programs.ServerUser(65534, 65534)) / "initdb"
        said = subprocess.run([initdb, "--version"], capture_output=True, check=True).stdout
    assert initdb.is_relative_to(open_folder) and b"PostgreSQL" in said


def test_language_that_is_not_installed_does_not_matter(fresh: Root) -> None:
    _, environment = fresh(LANG="xx_XX.UTF-8", LC_ALL="xx_XX.UTF-8")
    assert run_command("pipeline", *USE, **environment).returncode == 0
    said = run_command("pipeline", "psql", "-At", "-c", "SELECT upper('é'), 'Z' < 'a', version()", **environment).stdout
    assert said.startswith("É|t|PostgreSQL 18")


CAN_MOUNT = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def mounted(commands: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command where other file systems are mounted than for the rest of the machine."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f'{commands}; exec "$@"', "sh", *arguments],
        env={**os.environ, **environment},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not CAN_MOUNT, reason="needs to mount a file system")
def test_unwritable_shared_memory_folder_does_not_matter(fresh: Root) -> None:
    _, environment = fresh()
    for _ in range(2):  # once made there, once only started there
        said = mounted("mount -t tmpfs -o ro none /dev/shm", str(BIN / "pipeline"), *USE, **environment)
        assert said.returncode == 0, said.stderr
        run_command("pipeline", "stop", **environment)
        assert run_command("pipeline", *USE, **environment).returncode == 0
        run_command("pipeline", "stop", **environment)


@pytest.mark.skipif(not CAN_MOUNT, reason="needs to mount a file system")
def test_disk_full_at_the_first_start_is_said_in_one_line_and_leaves_nothing(fresh: Root) -> None:
    root, environment = fresh()
    root.mkdir()
    shell = f"mount -t tmpfs -o size=20m none '{root}'"
    listing = ["sh", "-c", f"'{BIN / 'pipeline'}' psql -c 'SELECT 1'; code=$?; ls -A '{root}'; exit $code"]
    said = mounted(shell, *listing, **environment)

    assert said.returncode == 1
    assert "No space left on device" in said.stderr and len(said.stderr.splitlines()) <= 2, said.stderr
    assert said.stdout.split() == ["postgres.lock"]


def test_killed_idle_watch_is_replaced_and_there_is_only_one(made: Root) -> None:
    root, environment = made(PIPELINE__POSTGRES__IDLE_MINUTES="0.1")
    run_command("pipeline", *USE, **environment)
    [first] = watchers(root)
    run_command("pipeline", *USE, **environment)
    assert watchers(root) == [first]
    os.kill(first, signal.SIGKILL)

    run_command("pipeline", *USE, **environment)
    assert len(watchers(root)) == 1 and watchers(root) != [first]
    eventually(lambda: postmasters(root) == [] and watchers(root) == [])


def test_idle_watch_looks_again_once_it_holds_the_lock(made: Root) -> None:
    root, environment = made()
    run_command("pipeline", *USE, **environment)
    folder = (root / "postgres").resolve()
    os.utime(last_use_file(folder), (0, 0))
    with ThreadPoolExecutor() as pool:
        with server_lock(folder):
            watching = pool.submit(watch, folder, 0.02)
            time.sleep(2)  # it has seen that nobody is there, and waits for the lock
            session = psycopg2.connect(EmbeddedServer(folder).dsn() or "")  # who came meanwhile
        with contextlib.closing(session), session.cursor() as cursor:
            for _ in range(5):
                time.sleep(0.5)
                cursor.execute("SELECT 1")
        watching.result(60)
    assert postmasters(root) == []


def test_asking_changes_nothing_in_the_environment(made: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = made()
    for name, value in {"PGSERVICE": "none", "PGHOST": "elsewhere", "PGPORT": "1"}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    database = PostgresDatabase("", "public", start_embedded=lambda: ensure_running(root / "postgres"))

    assert "PGSERVICE" not in database.process_environment()
    database.connect().close()
    assert dict(os.environ) == before


def postmaster(root: Path) -> int:
    return int((root / "postgres" / "postmaster.pid").read_text().split()[0])


def postmasters(root: Path) -> list[int]:
    """The processes that serve a root, by what the system says."""
    found = {}
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            is_server = process.info["name"] == "postgres" and "-D" in process.cmdline()
            if is_server and (root / "postgres").samefile(process.cwd()):
                found[process.pid] = process.ppid()
    # What a server has just forked is called as it is for a moment.
    return [process for process, parent in found.items() if parent not in found]


def watchers(root: Path) -> list[int]:
    """The processes that are to stop the idle server of a root, which hold a lock."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(root / "postgres.watch.lock") in {file.path for file in process.open_files()}:
                found.append(process.pid)
    return found


def sockets(root: Path) -> Path:
    """Where the server of a root has its socket."""
    return root / "postgres" / (root / "postgres" / "postmaster.pid").read_text().splitlines()[4]
