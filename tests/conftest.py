"""What tests share: real servers, a schema of one's own, small generated releases, and the real `luigi` command."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from browser import CHROMIUM, chromium
from forked import ForkedProcess, share_origin
from gcp import Emulators, GoogleCloud, emulators, new_google_cloud, shorten_waits
from http_source import HttpSource, http_source

from pipeline.datasets import Dataset, Release, dataset_named, parse_month
from pipeline.extract import extract_release, extracted_file
from pipeline.extract.download import HttpOptions, download
from pipeline.extract.locations import locations
from pipeline.extract.partial_download import PartialDownload
from pipeline.files import locked
from pipeline.progress import silent
from pipeline.sample import write_month
from pipeline.warehouses import LoadJob
from pipeline.warehouses.bigquery.resources import create_resources
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.embedded import ensure_running, stop
from pipeline.warehouses.postgres.embedded_programs import program
from pipeline.warehouses.postgres.embedded_server import EmbeddedServer

if TYPE_CHECKING:
    from loading_process import ProcessSource

# Where Python may not keep what it compiles, as in many images, each process of a test would compile dbt again: 3 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A shell without job control, as under cron, lets what it starts in the background ignore ctrl-C, and so on down.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CHECKOUT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
JANUARY = datetime.date(2019, 1, 1)
SHORT_WAITS = HttpOptions(connect_timeout=2, read_timeout=1, retries=2, longest_wait=0.05)

CONTENT = random.Random(1).randbytes(10_000)
SHORTEST_WAITS = HttpOptions(connect_timeout=2, read_timeout=0.3, retries=2, longest_wait=0.01)
LONGEST = {"test_dbt_bigquery", "test_docs", "test_embedded", "test_gcp_killed", "test_gcp_luigi", "test_install"}
UNSYNCED = "fsync = off\n"  # for servers of tests, which let servers and commands crash, and not the machine

Fetch = Callable[..., bytes]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, as tests wait for a third of their time; each needs half a gigabyte."""
    return min(os.cpu_count() or 1, 7) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Starts what commands are forked from while the tests are collected, once for all workers."""
    if "PYTEST_XDIST_WORKER" not in os.environ and not config.option.collectonly:
        share_origin()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets each worker begin with long tests, of which one at the end would be waited for.

    A worker first gets a share of the list, in order (`--dist worksteal`). Those that build models are all in the first
    share, so that the worker that begins prepares dbt for all.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    models = [item for item in items if item.get_closest_marker("models")]
    longest = [item for item in items if item.path.stem in LONGEST and item not in models]
    others = iter([item for item in items if item not in models and item not in longest])
    beginnings = [models, *(longest[start :: workers - 1] for start in range(workers - 1))]
    size = len(items) // workers
    shares = [[*beginning, *itertools.islice(others, max(0, size - len(beginning)))] for beginning in beginnings]
    if workers == 1:
        others = iter([*longest, *others])
    items[:] = [*itertools.chain(*shares), *others]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of an embedded PostgreSQL that this test process alone uses."""
    # Not below pytest's own folder: as root, the server is another user, whom any pytest that starts shuts out there.
    with tempfile.TemporaryDirectory(prefix="pipeline-test-") as folder:
        data = Path(folder) / "postgres"
        EmbeddedServer(data).create()
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(UNSYNCED)
        yield ensure_running(data)
        stop(data)


@pytest.fixture
def database(request: pytest.FixtureRequest, server: str) -> Iterator[PostgresDatabase]:
    """A database with a schema that only this test uses, which is there once something is loaded."""
    if request.node.get_closest_marker("models"):
        yield request.getfixturevalue("database_for_models")
        return
    database = PostgresDatabase(server, f"test_{uuid.uuid4().hex[:12]}")
    yield database
    execute(replace(database, schema="public"), f"DROP SCHEMA IF EXISTS {database.schema} CASCADE")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def parsed_project(shared_folder: Path) -> Path:
    """The file that the first worker to parse the dbt project writes its partial parse to, for all workers."""
    return shared_folder / "postgres.partial_parse.msgpack"


@pytest.fixture
def database_for_models(server: str, parsed_project: Path, tmp_path: Path) -> Iterator[PostgresDatabase]:
    """A database of this test's own, called as ever, and what dbt has parsed of the project there: it parses the whole
    project again, for seconds, where the database or the schema is called otherwise."""
    folders = [tmp_path / "dbt", tmp_path / "data" / "dbt"]
    by_hand = tmp_path / "data" / "dbt" / "target" / "partial_parse.msgpack"
    if parsed_project.exists():
        for file in (*(folder / parsed_project.name for folder in folders), by_hand):
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(parsed_project, file)
    with new_models_database(server) as database:
        yield database
    for folder in folders:
        keep_parsed(folder, parsed_project)


@contextlib.contextmanager
def new_models_database(server: str, template: str = "template1") -> Iterator[PostgresDatabase]:
    """The database in which models are built, made anew and dropped at the end."""
    drop = "DROP DATABASE IF EXISTS models WITH (FORCE)"
    _execute_alone(server, drop, f"CREATE DATABASE models TEMPLATE {template}")
    yield PostgresDatabase(server.replace("/postgres?", "/models?"), "taxi")
    _execute_alone(server, drop)


def keep_parsed(folder: Path, parsed_project: Path) -> None:
    """Keeps what dbt has parsed in a folder for those that come after, if it is the first."""
    if (folder / parsed_project.name).exists() and not parsed_project.exists():
        part = parsed_project.with_suffix(f".{os.getpid()}")
        shutil.copy(folder / parsed_project.name, part)
        part.replace(parsed_project)


@pytest.fixture(scope="session")
def template(server: str, shared_folder: Path, parsed_project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with the zones and two golden months of green, of which the models are built.

    One worker builds it; the others restore its dump.
    """
    dump = shared_folder / "built.sql"
    with locked(dump):
        if not dump.exists():
            _dump_built_models(server, dump, parsed_project, tmp_path_factory.mktemp("template"))
    _execute_alone(server, "CREATE DATABASE built TEMPLATE template0")
    target = server.replace("/postgres?", "/built?")
    subprocess.run([program("psql"), "-qXf", dump, "-v", "ON_ERROR_STOP=1", target], check=True, capture_output=True)
    return "built"


def _dump_built_models(server: str, dump: Path, parsed_project: Path, folder: Path) -> None:
    from golden_releases import write_golden_releases  # which imports this module, as do the others
    from models import build_models, load_release
    from trips import FEBRUARY

    write_golden_releases(folder)
    with new_models_database(server) as database:
        for dataset, month in (("zones", JANUARY), ("green", JANUARY), ("green", FEBRUARY)):
            load_release(database, folder, folder, dataset, month)
        build_models(database, folder / "dbt")
        keep_parsed(folder / "dbt", parsed_project)
        part = dump.with_suffix(".part")
        subprocess.run([program("pg_dump"), "-f", part, database.dsn], check=True)
        part.replace(dump)


@pytest.fixture
def built(template: str, server: str, database_for_models: PostgresDatabase) -> Iterator[PostgresDatabase]:
    """The database of a test that is marked `models`, with two months of green trips loaded and the models built."""
    with new_models_database(server, template) as database:
        yield database


@pytest.fixture
def green() -> Dataset:
    return dataset_named("green")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder laid out like the release site, with 500 made-up rows of green 2019-01."""
    folder = tmp_path / "mirror"
    write_month(dataset_named("green"), JANUARY, 500, folder)
    return folder


@pytest.fixture
def golden_mirror(mirror: Path) -> Path:
    """The mirror with the golden releases: what is on it is small enough to check by hand."""
    from golden_releases import write_golden_releases  # which imports this module

    write_golden_releases(mirror)
    return mirror


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpSource]:
    """A release site on a free port, empty and faultless until told otherwise."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http_source() as source:
        yield source


@pytest.fixture(scope="session")
def chromium_address() -> Iterator[str]:
    """The address of a browser that this test process alone uses; each test opens a page of its own there."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (.ci/run installs it)")
    with chromium() as address:
        yield address


@pytest.fixture(scope="session")
def google_emulators() -> Iterator[Emulators]:
    """Cloud Storage and BigQuery, emulated in this process."""
    with emulators() as running:
        yield running


@pytest.fixture(scope="session")
def killable_processes(google_emulators: Emulators) -> Iterator[ProcessSource]:
    """A source of processes that load and forget in Google Cloud, to be killed."""
    from loading_process import process_source  # which imports this module

    with process_source(google_emulators.environment) as source:
        yield source


@pytest.fixture
def google_cloud(google_emulators: Emulators, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleCloud]:
    """A Google Cloud project that only this test uses; `luigi` and `pipeline` work in it as long as the test runs.

    What the test lets go wrong there (`google_cloud.wire.inject`) must have happened when it ends.
    """
    cloud = new_google_cloud(google_emulators)
    for name, value in (cloud.environment | {"NO_PROXY": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    shorten_waits(monkeypatch)
    cloud.wire.requests.clear()
    yield cloud
    left, cloud.wire.incidents[:] = cloud.wire.incidents[:], []
    assert left == []


@pytest.fixture
def prepared_cloud(google_cloud: GoogleCloud) -> GoogleCloud:
    """A Google Cloud project with its bucket and its datasets."""
    create_resources(google_cloud.project)
    google_cloud.wire.requests.clear()
    return google_cloud


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git tracks, with this environment as its .venv; times kept, so that make finds it up to date."""
    copy = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (CHECKOUT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, copy / name)
    (copy / ".venv").symlink_to(CHECKOUT / ".venv")
    return copy


@pytest.fixture
def luigi(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> Run:
    """Runs the installed `luigi` on this package, as a user would, with this test's database, mirror and storage."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_command(
            "luigi", "--module", "pipeline", *arguments, **(settings(tmp_path, database, mirror) | environment)
        )

    return run


@pytest.fixture
def pipeline(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> Run:
    """Runs the installed `pipeline` command with the same settings as `luigi` here."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_command("pipeline", *arguments, **(settings(tmp_path, database, mirror) | environment))

    return run


@pytest.fixture(scope="session")
def real_releases() -> Path:
    """The folder of real release files; tests that need them are skipped where TLC_DATA_DIR does not say where."""
    if "TLC_DATA_DIR" not in os.environ:
        pytest.skip("TLC_DATA_DIR is not set: no real release files here")
    return Path(os.environ["TLC_DATA_DIR"]) / "releases"


def settings(root: Path, database: PostgresDatabase, mirror: Path) -> dict[str, str]:
    """The environment that points the commands at a test's own storage, database and source."""
    return {
        "PIPELINE__STORAGE__ROOT": str(root / "data"),
        "PIPELINE__POSTGRES__DSN": database.dsn,
        "PIPELINE__POSTGRES__SCHEMA": database.schema,
        "PIPELINE__SOURCE__BASE_URL": str(mirror),
        "PIPELINE__SOURCE__RETRIES": "2",
        "PIPELINE__SOURCE__LONGEST_WAIT": "0.05",
    }


def publish(mirror: Path, *months: str) -> None:
    """Puts made-up months of green, such as 2019-02, on a mirror: 100 rows each."""
    for month in months:
        write_month(dataset_named("green"), parse_month(month), 100, mirror)


def run_command(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs one of the environment's commands in the checkout to its end."""
    return _run([BIN / name, *arguments], CHECKOUT, environment)


def run_copy(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `luigi` on the package in a copy of the checkout to its end."""
    command = [sys.executable, "-m", "luigi", "--module", "pipeline", *arguments]
    return _run(command, checkout, environment | {"PYTHONPATH": str(checkout)})


def _run(command: list[Any], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with ForkedProcess(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def start_command(
    name: str, *arguments: str, process: type[subprocess.Popen[str]] = ForkedProcess, **environment: str
) -> subprocess.Popen[str]:
    """Starts one of the environment's commands in the checkout and does not wait for it."""
    return process(
        [BIN / name, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def job_for(
    dataset: Dataset, source: Path, tmp_path: Path, month: datetime.date | None = JANUARY, **options: Any
) -> LoadJob:
    """Extracts a month from a mirror and returns the job of loading it, as LoadTripdata makes it."""
    release = Release(dataset, month)
    facts = extract_release(
        release, locations(release, str(source)), tmp_path / "raw", SHORT_WAITS, silent, replace=True
    )
    return LoadJob(
        "LoadTripdata",
        release,
        "test",
        file=extracted_file(release, locations(release, str(source)), tmp_path / "raw"),
        extracted=facts,
        **options,
    )


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limits the files of this process and of those it starts to `size` bytes, so that writing more fails as on a full
    disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def execute(database: PostgresDatabase, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Runs one statement with the database's schema as the search path; returns its rows, if it has any."""
    with contextlib.closing(psycopg2.connect(database.dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", (database.schema,))
        cursor.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def _execute_alone(dsn: str, *statements: str) -> None:
    """Runs statements that PostgreSQL refuses to run inside a transaction."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


@pytest.fixture
def part(tmp_path: Path) -> PartialDownload:
    return PartialDownload(tmp_path / "file.part")


@pytest.fixture
def fetch(site: HttpSource, part: PartialDownload) -> Fetch:
    """Downloads the site's file and returns what is then in the part."""
    site.files["/file"] = CONTENT

    def run(options: HttpOptions = SHORTEST_WAITS) -> bytes:
        download(f"{site.url}/file", part, options, silent)
        return part.path.read_bytes()

    return run
