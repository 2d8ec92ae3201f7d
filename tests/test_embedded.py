"""The embedded PostgreSQL as users run it: through the commands, in a storage root of its own, without a DSN."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg2
import pytest
from conftest import BIN, CHECKOUT, UNSYNCED, run_command, start_command
from waiting import eventually

from pipeline.warehouses.postgres import embedded_programs, embedded_server
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.embedded import ensure_running, last_use_file, server_lock, stop, watch
from pipeline.warehouses.postgres.embedded_server import EmbeddedServer

COUNT = ("psql", "-c", "SELECT count(*) FROM green_tripdata")
LOAD = ("--module", "pipeline", "LoadTripdata", "--taxi", "green", "--month", "2019-01")
NewRoot = Callable[..., tuple[Path, dict[str, str]]]

CONNECT = ("psql", "-c", "SELECT 1")  # starts the server, which `status` does for an existing database only


@pytest.fixture(scope="module")
def new_server() -> Iterator[Path]:
    """The data folder of a new server that was never started."""
    with tempfile.TemporaryDirectory(prefix="pipeline-test-") as folder:
        data = Path(folder) / "postgres"
        EmbeddedServer(data).create()
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(UNSYNCED)
        yield data


@pytest.fixture
def new_root_with_server(new_root: NewRoot, new_server: Path) -> NewRoot:
    """Creates storage roots with a server that was never started: a copy, which is faster than creating one."""

    def make(name: str = "data", **environment: str) -> tuple[Path, dict[str, str]]:
        root, variables = new_root(name, **environment)
        root.mkdir(parents=True)
        subprocess.run(["cp", "-a", new_server, root / "postgres"], check=True)
        return root, variables

    return make


@pytest.fixture
def new_root(mirror: Path) -> Iterator[NewRoot]:
    """Creates storage roots without a server, and the environment in which commands use them."""
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
    for process in [process for root in roots for process in postmasters(root)]:
        os.kill(process, signal.SIGQUIT)  # ends the server without writing its data to the disk first
        eventually(lambda process=process: has_ended(process))
    folder.cleanup()


def test_server_is_started_reused_stopped_and_restarted_with_its_data(new_root: NewRoot) -> None:
    root, environment = new_root()

    assert run_command("luigi", *LOAD, **environment).returncode == 0
    first = postmaster(root)
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert postmaster(root) == first

    assert "has stopped" in run_command("pipeline", "stop", **environment).stdout
    assert postmasters(root) == []
    assert "was not running" in run_command("pipeline", "stop", **environment).stdout

    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert postmaster(root) != first


def test_libpq_variables_do_not_affect_the_embedded_server(new_root: NewRoot) -> None:
    _, environment = new_root()
    others = {"PGPORT": "5433", "PGHOSTADDR": "127.0.0.1", "PGSERVICE": "none", "PGOPTIONS": "-c work_mem=1"}

    assert run_command("luigi", *LOAD, **environment, **others).returncode == 0
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout


def test_two_concurrent_commands_in_a_new_root_share_one_server(new_root: NewRoot) -> None:
    root, environment = new_root()
    commands = [start_command("luigi", *LOAD, **environment) for _ in range(2)]
    outputs = [command.communicate(timeout=100)[0] for command in commands]

    assert [command.returncode for command in commands] == [0, 0], outputs
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert len(postmasters(root)) == 1


def test_idle_server_stops_itself(new_root_with_server: NewRoot) -> None:
    root, environment = new_root_with_server(PIPELINE__POSTGRES__IDLE_MINUTES="0.02")
    assert run_command("pipeline", *CONNECT, **environment).returncode == 0
    assert len(postmasters(root)) == 1

    eventually(lambda: postmasters(root) == [])
    assert run_command("pipeline", *CONNECT, **environment).returncode == 0


def test_killed_server_is_restarted_with_its_data(new_root_with_server: NewRoot) -> None:
    root, environment = new_root_with_server()
    run_command("luigi", *LOAD, **environment)
    os.kill(postmaster(root), signal.SIGKILL)

    again = run_command("pipeline", *COUNT, **environment)
    assert again.returncode == 0 and "500" in again.stdout, again.stderr


def test_server_starts_although_its_old_pid_belongs_to_another_process(new_root_with_server: NewRoot) -> None:
    root, environment = new_root_with_server()
    run_command("pipeline", *CONNECT, **environment)
    files = [root / "postgres" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock")]
    lines = {file: file.read_text().splitlines() for file in files}
    run_command("pipeline", "stop", **environment)
    for file in files:  # as after a crash and a reboot
        file.write_text("\n".join([str(os.getppid()), *lines[file][1:]]) + "\n")

    connected = run_command("pipeline", *CONNECT, **environment)
    assert connected.returncode == 0, connected.stderr


def test_removed_folder_of_a_running_server_gets_a_new_server(new_root_with_server: NewRoot) -> None:
    root, environment = new_root_with_server()
    run_command("luigi", *LOAD, **environment)
    old = postmaster(root)
    shutil.rmtree(root / "postgres")

    assert run_command("pipeline", *CONNECT, **environment).returncode == 0
    new = postmaster(root)
    assert new != old
    # The old server would look for its folder once a minute. Its end must not remove the new server's socket.
    os.kill(old, signal.SIGQUIT)
    eventually(lambda: has_ended(old))
    assert run_command("pipeline", *CONNECT, **environment).returncode == 0
    assert postmaster(root) == new


def test_server_without_its_socket_is_restarted(new_root_with_server: NewRoot) -> None:
    root, environment = new_root_with_server()
    run_command("luigi", *LOAD, **environment)
    old = postmaster(root)
    (root / "postgres" / ".s.PGSQL.5432").unlink()

    again = run_command("pipeline", *COUNT, **environment)
    assert again.returncode == 0 and "500" in again.stdout, again.stderr
    assert postmaster(root) != old


def test_server_whose_parent_does_not_notice_its_end_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first process of a container, which is then the parent, may not."""
    script = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        server = psutil.Process(int(parent.stdout.readline()))
        monkeypatch.setattr(EmbeddedServer, "process", lambda _: server)
        monkeypatch.setattr(embedded_server, "_START_SECONDS", 5)

        try:
            assert EmbeddedServer(tmp_path).stop()
            assert server.status() == psutil.STATUS_ZOMBIE
        finally:
            parent.kill()


@pytest.mark.parametrize(
    "name",
    ["with space and 'quote'", "comma,comma", "deep/" + "x" * 100, 'double"quote', "back`tick`s", "$HOME and $(id)"],
    ids=lambda name: name[:10],
)
def test_any_storage_path_is_accepted(new_root: NewRoot, name: str) -> None:
    root, environment = new_root(name)

    used = run_command("pipeline", *CONNECT, **environment)
    assert used.returncode == 0, used.stderr
    psycopg2.connect(ensure_running(root / "postgres")).close()

    assert (root / "postgres").stat().st_mode & 0o077 == 0  # because the server does not ask for a password
    assert stop(root / "postgres")
    assert list((root / "postgres").glob(".s.PGSQL*")) == []


def test_server_with_a_long_path_is_reached_by_a_link_that_only_this_user_can_have_made(
    new_root_with_server: NewRoot,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root, environment = new_root_with_server("x" * 100, TMPDIR=temporary)
        for _ in range(2):
            assert run_command("pipeline", *CONNECT, **environment).returncode == 0
            (link,) = Path(temporary).iterdir()
            assert link.resolve() == (root / "postgres").resolve()
            link.unlink()  # as what cleans such folders may do
        stop(root / "postgres")

        link.symlink_to(temporary)
        failed = run_command("pipeline", *CONNECT, **environment)
        assert failed.returncode == 1
        assert f"does not start ({link} is not a link to {root / 'postgres'}" in failed.stderr
        assert len(failed.stderr.splitlines()) == 1


def test_relative_storage_root_is_accepted(new_root: NewRoot) -> None:
    root, environment = new_root()
    environment["PIPELINE__STORAGE__ROOT"] = os.path.relpath(root, Path(__file__).parents[1])

    assert run_command("luigi", *LOAD, **environment).returncode == 0
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert postmaster(root)


def test_server_that_cannot_start_is_reported_in_one_line(new_root: NewRoot) -> None:
    root, environment = new_root()
    (root / "postgres").mkdir(parents=True)
    (root / "postgres" / "something else").touch()

    connected = run_command("pipeline", *CONNECT, **environment)
    assert connected.returncode == 1
    assert connected.stderr.startswith(f"pipeline: the embedded PostgreSQL in {root / 'postgres'} does not start")
    assert connected.stderr.count("\n") == 1
    assert (root / "postgres" / "something else").exists()


@pytest.mark.parametrize("end", ["", "x" * 100], ids=["short path", "long path"])
def test_copied_folder_gets_a_server_of_its_own(new_root_with_server: NewRoot, new_root: NewRoot, end: str) -> None:
    root, environment = new_root_with_server("original" + end)
    copy, copy_environment = new_root("copy" + end)
    assert run_command("luigi", *LOAD, **environment).returncode == 0
    original = postmaster(root)
    run_command("pipeline", "psql", "-c", "CHECKPOINT", **environment)
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".s.PGSQL.5432"))
    (copy / "postgres").chmod(0o755)  # as in a copy that keeps neither the mode nor, if root makes it, the owner

    assert "was not running" in run_command("pipeline", "stop", **copy_environment).stdout
    forgotten = run_command("pipeline", "forget", "--taxi", "green", "--month", "2019-01", **copy_environment)
    assert forgotten.returncode == 0, forgotten.stderr
    assert " 0\n" in run_command("pipeline", *COUNT, **copy_environment).stdout
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert "has stopped" in run_command("pipeline", "stop", **copy_environment).stdout
    assert postmasters(root) == [original]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_server_of_root_changes_no_mode_of_parent_folders(new_root: NewRoot, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    root, environment = new_root(str(closed / "deep" / "data"))
    before = {folder: folder.stat().st_mode for folder in root.parents if folder.exists()}

    assert run_command("luigi", *LOAD, **environment).returncode == 0
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    run_command("pipeline", "stop", **environment)
    assert "500" in run_command("pipeline", *COUNT, **environment).stdout
    assert {folder: folder.stat().st_mode for folder in before} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_server_user_that_another_command_creates_at_the_same_time_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, find, first = embedded_programs.server_user(tmp_path), pwd.getpwnam, iter([True])

    def find_late(name: str) -> pwd.struct_passwd:
        return find("nobody's" if next(first, False) else name)  # not there yet, at the first look

    monkeypatch.setattr(pwd, "getpwnam", find_late)

    assert embedded_programs.server_user(tmp_path) == user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_programs_that_the_server_user_cannot_run_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        done = subprocess.run([programs[1] / "initdb"], user=65534, group=65534, capture_output=True, check=True)
    assert (programs[0], done.stdout) == (programs[1], b"runs\n")


def test_copied_programs_find_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_programs, "is_world_accessible", lambda _: False)
    with tempfile.TemporaryDirectory() as open_folder:
        Path(open_folder).chmod(0o755)
        monkeypatch.setattr(embedded_programs, "_PROGRAMS_FOR_ROOT", Path(open_folder) / "programs")
        initdb = embedded_programs._programs(embedded_programs.ServerUser(65534, 65534)) / "initdb"
        version = subprocess.run([initdb, "--version"], capture_output=True, check=True).stdout
    assert initdb.is_relative_to(open_folder) and b"PostgreSQL" in version


def test_locale_that_is_not_installed_is_ignored(new_root: NewRoot) -> None:
    _, environment = new_root(LANG="xx_XX.UTF-8", LC_ALL="xx_XX.UTF-8")
    assert run_command("pipeline", *CONNECT, **environment).returncode == 0
    output = run_command(
        "pipeline", "psql", "-At", "-c", "SELECT upper('é'), 'Z' < 'a', version()", **environment
    ).stdout
    assert output.startswith("É|t|PostgreSQL 18")


CAN_MOUNT = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def run_with_mounts(commands: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with mounts that other processes do not see."""
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
def test_server_runs_without_a_writable_shared_memory_folder(new_root: NewRoot) -> None:
    _, environment = new_root()
    for _ in range(2):  # the first run creates the server, the second one only starts it
        done = run_with_mounts("mount -t tmpfs -o ro none /dev/shm", str(BIN / "pipeline"), *CONNECT, **environment)
        assert done.returncode == 0, done.stderr
        run_command("pipeline", "stop", **environment)
        assert run_command("pipeline", *CONNECT, **environment).returncode == 0
        run_command("pipeline", "stop", **environment)


@pytest.mark.skipif(not CAN_MOUNT, reason="needs to mount a file system")
def test_full_disk_at_the_first_start_is_reported_and_leaves_nothing(new_root: NewRoot) -> None:
    root, environment = new_root()
    root.mkdir()
    shell = f"mount -t tmpfs -o size=20m none '{root}'"
    listing = ["sh", "-c", f"'{BIN / 'pipeline'}' psql -c 'SELECT 1'; code=$?; ls -A '{root}'; exit $code"]
    done = run_with_mounts(shell, *listing, **environment)

    assert done.returncode == 1
    assert "No space left on device" in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
    assert done.stdout.split() == ["postgres.lock"]


def test_killed_idle_watch_is_replaced_by_exactly_one(new_root_with_server: NewRoot) -> None:
    root, environment = new_root_with_server(PIPELINE__POSTGRES__IDLE_MINUTES="0.1")
    run_command("pipeline", *CONNECT, **environment)
    [first] = watchers(root)
    run_command("pipeline", *CONNECT, **environment)
    assert watchers(root) == [first]
    os.kill(first, signal.SIGKILL)

    run_command("pipeline", *CONNECT, **environment)
    assert len(watchers(root)) == 1 and watchers(root) != [first]
    eventually(lambda: postmasters(root) == [] and watchers(root) == [])


def test_idle_watch_checks_again_once_it_has_the_lock(new_root_with_server: NewRoot) -> None:
    root, environment = new_root_with_server()
    run_command("pipeline", *CONNECT, **environment)
    folder = (root / "postgres").resolve()
    os.utime(last_use_file(folder), (0, 0))
    with ThreadPoolExecutor() as pool:
        with server_lock(folder):
            watching = pool.submit(watch, folder, 0.02)
            time.sleep(2)  # the watch has found the server idle, and waits for the lock
            session = psycopg2.connect(EmbeddedServer(folder).dsn() or "")  # of a client that connects in the meantime
        with contextlib.closing(session), session.cursor() as cursor:
            for _ in range(5):
                time.sleep(0.5)
                cursor.execute("SELECT 1")
        watching.result(60)
    assert postmasters(root) == []


def test_connecting_changes_no_environment_variables(
    new_root_with_server: NewRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = new_root_with_server()
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
    """Returns the ids of a root's server processes, as the operating system lists them."""
    found = {}
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            is_server = process.info["name"] == "postgres" and "-D" in process.cmdline()
            if is_server and (root / "postgres").samefile(process.cwd()):
                found[process.pid] = process.ppid()
    # A process that a server has just forked has the server's command line for a moment.
    return [process for process, parent in found.items() if parent not in found]


def has_ended(process: int) -> bool:
    """Whether a process has ended, even if its parent has not noticed that yet."""
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def watchers(root: Path) -> list[int]:
    """Returns the ids of the processes that stop a root's idle server; they hold a lock."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(root / "postgres.watch.lock") in {file.path for file in process.open_files()}:
                found.append(process.pid)
    return found
