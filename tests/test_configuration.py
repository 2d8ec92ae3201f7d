"""Where settings come from, which of them wins, and that none of them shows a password."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from conftest import BIN, Run, execute, run_command, settings
from psycopg2.extensions import parse_dsn
from trips import HEADER, trip, trips

from pipeline.warehouses.postgres.connection import PostgresDatabase

LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")
SECRET = "s3cr%65t"


def test_command_line_wins_over_environment_over_named_file_over_luigi_cfg(
    database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    schema = database.schema
    (tmp_path / "luigi.cfg").write_text(
        f"[core]\nlocal_scheduler = true\nno_lock = true\n[postgres]\nschema = {schema}_cfg\n"
        f"dsn = {database.dsn.replace('%', '%%')}\n[source]\nbase-url = {mirror}\n"
    )
    (tmp_path / "named.cfg").write_text(f"[postgres]\nschema = {schema}_named\n")

    def schemas_after_load(*options: str, **environment: str) -> list[str]:
        subprocess.run(
            [BIN / "luigi", "--module", "pipeline", *LOAD, *options],
            cwd=tmp_path,
            env=os.environ | environment,
            check=True,
        )
        query = "SELECT schemaname::text FROM pg_tables WHERE tablename = 'load_ledger' AND schemaname LIKE %s"
        return [name.removeprefix(f"{schema}_") for (name,) in execute(database, query, f"{schema}%")]

    named = {"LUIGI_CONFIG_PATH": str(tmp_path / "named.cfg")}
    variable = {"PIPELINE__POSTGRES__SCHEMA": f"{schema}_env"}
    try:
        assert schemas_after_load() == ["cfg"]
        assert set(schemas_after_load(**named)) == {"cfg", "named"}
        assert set(schemas_after_load(**named, **variable)) == {"cfg", "named", "env"}
        in_all = schemas_after_load("--postgres-schema", f"{schema}_cli", **named, **variable)
        assert set(in_all) == {"cfg", "named", "env", "cli"}
        assert (tmp_path / "data" / "raw" / "green").is_dir()  # nothing says where: the default
    finally:
        for place in ("cfg", "named", "env", "cli"):
            execute(database, f"DROP SCHEMA IF EXISTS {schema}_{place} CASCADE")


def test_shipped_configuration_holds_in_any_folder(database: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    of = ("--of", "LoadTripdata", "--of-params", '{"taxi":"green"}')
    done = subprocess.run(
        [BIN / "luigi", "--module", "pipeline", "RangeMonthly", *of, "--start", "2019-01", "--stop", "2019-03"],
        cwd=tmp_path,
        env=os.environ | settings(tmp_path, database, mirror),
        check=False,
    )

    # Luigi's own defaults would do nothing for months so old, and exit with 0 whatever fails.
    assert done.returncode == 30
    assert execute(database, "SELECT partition_key FROM load_ledger") == [("green/2019-01",)]


def test_values_in_the_environment_are_taken_as_they_are(luigi: Run, database: PostgresDatabase) -> None:
    socket = parse_dsn(database.dsn)["host"]
    dsn = f"postgresql://postgres:50%25%20${{off}}@/postgres?host={quote(socket, safe='')}"
    loaded = luigi(*LOAD, PIPELINE__POSTGRES__DSN=dsn)

    assert loaded.returncode == 0, loaded.stderr
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(500,)]


def test_parameters_of_tasks_come_from_the_environment_too(luigi: Run, mirror: Path) -> None:
    file = mirror / "green" / "green_tripdata_2019-01.csv.gz"
    file.write_bytes(b"\r\n".join([HEADER, *trips(3), trip(4, fare_amount="free")]))

    assert luigi(*LOAD).returncode == 30
    assert luigi(*LOAD, PIPELINE__LOADTRIPDATA__MAX_BAD_ROWS="1").returncode == 0


def test_raw_file_is_removed_on_request_and_the_month_stays_done(luigi: Run, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "raw" / "green"
    loaded = luigi(*LOAD, PIPELINE__STORAGE__KEEP_RAW="false")
    assert loaded.returncode == 0, loaded.stderr
    assert [path for path in raw.iterdir() if path.is_file()] == []

    again = luigi(*LOAD, PIPELINE__STORAGE__KEEP_RAW="false")
    assert again.returncode == 0
    assert "Did not run any tasks" in again.stderr
    forced = luigi(*LOAD, "--force", PIPELINE__STORAGE__KEEP_RAW="false")
    assert "2 ran successfully" in forced.stderr


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PIPELINE__POSTGRES__DNS", SECRET, "pipeline: [postgres] has no setting 'dns'; it has: dsn, schema,"),
        (
            "PIPELINE__POSTGRES__COPY_STREAMS",
            "two",
            "pipeline: [postgres] copy_streams: invalid literal for int() with base 10: 'two'",
        ),
        (
            "PIPELINE__POSTGRES__DSN",
            f"postgresql://me:{SECRET}%zz@db/taxi",
            "pipeline: [postgres] dsn is not a libpq URL",
        ),
        (
            "PIPELINE__POSTGRES__DSN",
            f"postgresql://me:{SECRET}@127.0.0.1:1/taxi",
            "pipeline: no connection to PostgreSQL",
        ),
    ],
)
def test_wrong_setting_is_told_in_one_line_without_its_value(
    pipeline: Run, variable: str, value: str, said: str
) -> None:
    failed = pipeline("status", **{variable: value})

    assert failed.returncode == 1
    assert said in failed.stderr and failed.stderr.count("\n") == 1
    assert_hidden(failed.stdout + failed.stderr)


def test_variable_that_names_no_section_is_refused(luigi: Run, pipeline: Run) -> None:
    for done in (pipeline("status", PIPELINE__POSTGRE__DSN=SECRET), luigi(*LOAD, PIPELINE__POSTGRE__DSN=SECRET)):
        assert done.returncode == 1
        assert done.stderr == "pipeline: PIPELINE__POSTGRE__DSN: there is no section and no task 'postgre'\n"


def test_empty_variable_is_none(pipeline: Run) -> None:
    shown = pipeline("status", PIPELINE__POSTGRES__SCHEMA="", PIPELINE__SOURCE__BASE_URL="")

    assert shown.returncode == 0, shown.stderr


def test_configuration_file_that_is_not_there_is_told(pipeline: Run, tmp_path: Path) -> None:
    failed = pipeline("status", LUIGI_CONFIG_PATH=str(tmp_path / "central.cfg"))

    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith(f"pipeline: LUIGI_CONFIG_PATH: there is no {tmp_path}")


def test_percent_left_bare_in_luigi_cfg_is_told_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text(f"[postgres]\ndsn = postgresql://me:{SECRET}@db/taxi\n")
    failed = subprocess.run([BIN / "pipeline", "status"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert failed.returncode == 1
    assert failed.stderr.startswith("pipeline: [postgres] dsn: write %% for %")
    assert_hidden(failed.stderr)


def test_password_is_in_no_output_of_any_task_and_in_no_psql_argument(
    luigi: Run, database: PostgresDatabase, tmp_path: Path
) -> None:
    socket = quote(parse_dsn(database.dsn)["host"], safe="")
    dsn = f"postgresql://postgres:{SECRET}@/postgres?host={socket}"
    loaded = luigi(*LOAD, "--log-level", "DEBUG", PIPELINE__POSTGRES__DSN=dsn)
    assert loaded.returncode == 0, loaded.stderr
    assert_hidden(loaded.stdout + loaded.stderr)

    environment = settings(tmp_path, database, tmp_path) | {"PIPELINE__POSTGRES__DSN": dsn}
    with subprocess.Popen(
        [BIN / "pipeline", "psql"],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as psql:
        assert psql.stdin and psql.stdout
        psql.stdin.write("\\echo ready\n")
        psql.stdin.flush()
        assert psql.stdout.readline() == "ready\n"
        process = psutil.Process(psql.pid)
        assert process.name() == "psql"
        assert_hidden(" ".join(process.cmdline()))
        assert process.environ()["PGPASSWORD"] == "s3cret"
        psql.stdin.close()


def test_settings_are_listed_in_the_help_of_every_task() -> None:
    shown = run_command("luigi", "--module", "pipeline", "LoadTripdata", "--help-all").stdout
    for option in ("--source-base-url", "--storage-keep-raw", "--postgres-dsn", "--LoadTripdata-max-bad-rows"):
        assert option in shown


def assert_hidden(text: str) -> None:
    assert SECRET not in text
    assert "s3cret" not in text
