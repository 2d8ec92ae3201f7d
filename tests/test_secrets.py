"""Passwords and keys are not printed, logged, stored, shown by the scheduler, or visible in process arguments."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from central import central_scheduler
from conftest import BIN, CHECKOUT, execute, run_command, settings
from http_source import HttpSource
from psycopg2.extensions import parse_dsn

from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("--module", "pipeline", "LoadTripdata", "--taxi", "green")
SECRET = "s3cret"
KEY = base64.b64encode(json.dumps({"type": "service_account", "private_key": SECRET}).encode()).decode()


@pytest.fixture
def environment(tmp_path: Path, database: PostgresDatabase, site: HttpSource, mirror: Path) -> dict[str, str]:
    """Settings with a secret in each of the places where the pipeline accepts one."""
    file = mirror / "green" / "green_tripdata_2019-01.csv.gz"
    site.files[f"/green/{file.name}"] = file.read_bytes()
    socket = quote(parse_dsn(database.dsn)["host"], safe="")
    return settings(tmp_path, database, mirror) | {
        "PIPELINE__POSTGRES__DSN": f"postgresql://postgres:{SECRET}@/postgres?host={socket}",
        "PIPELINE__SOURCE__BASE_URL": site.url.replace("http://", f"http://me:{SECRET}@"),
        "PGPASSWORD": SECRET,
        "PIPELINE__SCHEDULER__RETRY_COUNT": "1",
        "SECRET_GCP_SERVICE_ACCOUNT": KEY,
        "PIPELINE__ALERTS__WEBHOOK_URL": f"{site.url}/{SECRET}",
    }


def run_and_watch(environment: dict[str, str], *arguments: str) -> tuple[int, str, set[str]]:
    """Runs luigi; returns its exit code, its output, and the command lines of its processes while it ran."""
    seen: set[str] = set()
    with tempfile.TemporaryFile("w+") as output:
        process = psutil.Popen(
            [BIN / "luigi", *arguments], cwd=CHECKOUT, env=os.environ | environment, stdout=output, stderr=output
        )
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):  # a process that has ended in the meantime
                seen |= {" ".join(one.cmdline()) for one in (process, *process.children(recursive=True))}
        output.seek(0)
        return process.returncode, output.read(), seen


@pytest.mark.parametrize(("month", "code"), [("2019-01", 0), ("2018-12", 30)], ids=["done", "failed"])
def test_run_reveals_no_secret(
    environment: dict[str, str],
    database: PostgresDatabase,
    tmp_path: Path,
    month: str,
    code: int,
) -> None:
    with central_scheduler(environment) as ui:
        returned, output, processes = run_and_watch(
            environment | ui.environment, *LOAD, "--month", month, "--log-level", "DEBUG"
        )
        tasks = ui.tasks()
        errors = [json.dumps(ui.call_api("fetch_error", task_id=name)) for name in tasks]

    assert returned == code, output
    assert "LoadTripdata" in output and any("LoadTripdata" in line for line in processes)
    assert_hidden(output, *processes, *ui.startup_lines)
    assert tasks
    assert_hidden(json.dumps(tasks), *errors)
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert kept
    assert_hidden(*(path.read_bytes().decode("latin-1") for path in kept))
    assert_hidden(run_command("pipeline", "status", "--json", **environment).stdout)
    for (table,) in execute(database, "SELECT tablename FROM pg_tables WHERE schemaname = %s", database.schema):
        assert_hidden(str(execute(database, f'SELECT * FROM "{table}"')))


def test_repr_of_settings_contains_no_secret(environment: dict[str, str]) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SHOW_SETTINGS],
        cwd=CHECKOUT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "PostgresDatabase(" in shown and "source(" in shown
    assert_hidden(shown)


SHOW_SETTINGS = """
import pipeline
from pipeline.settings import Section
from pipeline.warehouses.postgres.warehouse import configured_database
print([repr(section()) for section in Section.__subclasses__()], repr(configured_database()))
"""


def test_invalid_source_is_reported_without_its_password(environment: dict[str, str]) -> None:
    environment["PIPELINE__SOURCE__BASE_URL"] = f"ftp://me:{SECRET}@127.0.0.1/"
    failed = run_command("luigi", *LOAD, "--month", "2019-01", **environment)

    assert failed.returncode == 30
    assert "base_url must be an http(s) URL" in failed.stderr
    assert_hidden(failed.stdout, failed.stderr)


def assert_hidden(*texts: str) -> None:
    for text in texts:
        assert SECRET not in text
        assert KEY not in text
