"""Where settings come from, which source takes precedence, and that messages show no password."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_command_line_precedes_environment_then_named_file_then_luigi_cfg(
    database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    schema = database.schema
    (tmp_path / "luigi.cfg").write_text(
        f"[core]\nlocal_scheduler = true\nno_lock = true\n[postgres]\nschema = {schema}_cfg\n"
        f"dsn = {database.dsn.replace('%', '%%')}\n[source]\nbase-url = {mirror}\n[storage]\nroot = kept\n"
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
        assert (tmp_path / "kept" / "raw" / "green").is_dir()
    finally:
        for place in ("cfg", "named", "env", "cli"):
            execute(database, f"DROP SCHEMA IF EXISTS {schema}_{place} CASCADE")


def test_shipped_configuration_applies_in_any_folder(database: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    of = ("--of", "LoadTripdata", "--of-params", '{"taxi":"green"}')
    done = subprocess.run(
        [BIN / "luigi", "--module", "pipeline", "RangeMonthly", *of, "--start", "2019-01", "--stop", "2019-03"],
        cwd=tmp_path,
        env=os.environ | settings(tmp_path, database, mirror),
        check=False,
    )

    # With Luigi's own defaults, such old months would be skipped, and the exit code would be 0 after any failure.
    assert done.returncode == 30
    assert execute(database, "SELECT partition_key FROM load_ledger") == [("green/2019-01",)]


def test_values_in_the_environment_are_used_literally(luigi: Run, database: PostgresDatabase) -> None:
    socket = parse_dsn(database.dsn)["host"]
    dsn = f"postgresql://postgres:50%25%20${{off}}@/postgres?host={quote(socket, safe='')}"
    loaded = luigi(*LOAD, PIPELINE__POSTGRES__DSN=dsn)

    assert loaded.returncode == 0, loaded.stderr
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(500,)]


def test_parameters_of_tasks_can_be_set_in_the_environment(luigi: Run, mirror: Path) -> None:
    file = mirror / "green" / "green_tripdata_2019-01.csv.gz"
    file.write_bytes(b"\r\n".join([HEADER, *trips(3), trip(4, fare_amount="free")]))

    assert luigi(*LOAD).returncode == 30
    assert luigi(*LOAD, PIPELINE__LOADTRIPDATA__MAX_BAD_ROWS="1").returncode == 0


def test_raw_file_is_removed_on_request_and_the_month_stays_complete(luigi: Run, tmp_path: Path) -> None:
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
    ("variable", "value", "message"),
    [
        ("PIPELINE__POSTGRES__DNS", SECRET, "pipeline: [postgres] has no setting 'dns'; it has: dsn, schema,"),
        (
            "PIPELINE__POSTGRES__COPY_STREAMS",
            "two",
            "pipeline: [postgres] copy_streams: 'two' is not a whole number from 1 on",
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
def test_invalid_setting_is_reported_in_one_line_without_its_value(
    pipeline: Run, variable: str, value: str, message: str
) -> None:
    failed = pipeline("status", **{variable: value})

    assert failed.returncode == 1
    assert message in failed.stderr and failed.stderr.count("\n") == 1
    assert_hidden(failed.stdout + failed.stderr)


@pytest.mark.parametrize("origin", ["default", "environment"])
def test_relative_root_is_below_the_checkout_in_any_working_folder(
    checkout: Path, database: PostgresDatabase, mirror: Path, tmp_path: Path, origin: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = settings(tmp_path, database, mirror) | {"PYTHONPATH": str(checkout)}
    del environment["PIPELINE__STORAGE__ROOT"]
    if origin == "environment":
        environment["PIPELINE__STORAGE__ROOT"] = "kept/here"
        environment["PIPELINE__SOURCE__BASE_URL"] = os.path.relpath(mirror, checkout)
    command = [sys.executable, "-m", "luigi", "--module", "pipeline", *LOAD]
    done = subprocess.run(
        command, cwd=elsewhere, env=os.environ | environment, check=False, stderr=subprocess.PIPE, text=True
    )

    assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []
    root = checkout / ("data" if origin == "default" else "kept/here")
    assert (root / "raw" / "green" / "green_tripdata_2019-01.csv.gz").is_file()


def test_relative_folders_are_resolved_against_their_configuration_file(
    database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    named = tmp_path / "100% mine" / "named.cfg"
    named.parent.mkdir()
    named.write_text("[storage]\nroot = kept\n[source]\nbase_url = ../mirror\n")
    environment = settings(tmp_path, database, mirror) | {"LUIGI_CONFIG_PATH": str(named)}
    del environment["PIPELINE__STORAGE__ROOT"], environment["PIPELINE__SOURCE__BASE_URL"]
    loaded = run_command("luigi", "--module", "pipeline", *LOAD, **environment)

    assert loaded.returncode == 0, loaded.stderr
    assert (named.parent / "kept" / "raw" / "green" / "green_tripdata_2019-01.csv.gz").is_file()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("POSTGRES__COPY_STREAMS", "0", "[postgres] copy_streams: '0' is not a whole number from 1 on"),
        ("POSTGRES__LOCK_TIMEOUT", "ten", "[postgres] lock_timeout: 'ten' is not a number from 0 on"),
        ("DBT__THREADS", "0", "[dbt] threads: '0' is not a whole number from 1 on"),
        ("STORAGE__KEEP_RAW", "maybe", "[storage] keep_raw: cannot interpret 'maybe' as boolean"),
        ("SOURCE__RETRIES", "-1", "[source] retries: '-1' is not a whole number from 0 on"),
        ("GCP__MAXIMUM_BYTES_BILLED", "-1", "[gcp] maximum_bytes_billed: '-1' is not a whole number from 0 on"),
        ("LOGS__FORMAT", "xml", "[logs] format: 'xml' is not one of plain, json, auto"),
        ("LOGS__KEEP_DAYS", "-3", "[logs] keep_days: '-3' is not a whole number from 0 on"),
        ("ALERTS__GATHER_MINUTES", "abc", "[alerts] gather_minutes: 'abc' is not a number from 0 on"),
        ("ALERTS__WEBHOOK_URL", SECRET, "[alerts] webhook_url: not an http(s) URL"),
        ("RESOURCES__POSTGRES", "x", "[resources] postgres: 'x' is not a whole number from 1 on"),
        ("RESOURCES__BIGQUERY", "0", "[resources] bigquery: '0' is not a whole number from 1 on"),
        (
            "SCHEDULE__PARAMETERS",
            "[1]",
            """[schedule] parameters: '[1]' is not a JSON object such as '{"warehouse": "postgres"}'""",
        ),
        ("SCHEDULE__START", "spring", "[schedule] start: 'spring' is not a month such as 2019-01"),
        ("LOADTRIPDATA__MAX_BAD_ROWS", "-5", "[LoadTripdata] max_bad_rows: '-5' is not a whole number from 0 on"),
        ("LOADTRIPDATA__MONTH", "spring", "[LoadTripdata] month: 'spring' is not a month such as 2019-01"),
        ("RANGEMONTHLY__MONTHS_BACK", "x", "[RangeMonthly] months_back: 'x' is not a whole number"),
        ("RANGEMONTHLY__OF", "x", "[RangeMonthly] of: 'x' is not a task"),
        ("WORKER__KEEP_ALIVE", "yes", "[worker] keep_alive: cannot interpret 'yes' as boolean"),
    ],
)
def test_invalid_value_is_refused_before_anything_runs(
    luigi: Run, tmp_path: Path, name: str, value: str, message: str
) -> None:
    refused = luigi(*LOAD, **{f"PIPELINE__{name}": value})

    assert (refused.returncode, refused.stderr) == (1, f"pipeline: {message}\n")
    assert not (tmp_path / "data").exists()


def test_sections_that_no_run_reads_are_not_checked(luigi: Run, tmp_path: Path) -> None:
    file = tmp_path / "shared.cfg"
    file.write_text("[smtp]\npassword=${UNSET}\n[RangeDaily]\nof=TaskOfAnotherProject\n[spark]\nmaster=${UNSET}\n")

    done = luigi(*LOAD, LUIGI_CONFIG_PATH=str(file))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PIPELINE__POSTGRES__COPY_STREAMS", "0"),
        ("PIPELINE__SOURCE__RETRIES", "-1"),
        ("PIPELINE__SOURCE__READ_TIMEOUT", "soon"),
        ("PIPELINE__SCHEDULE__WORKERS", "0"),
        ("PIPELINE__DBT__THREADS", "1.5"),
    ],
)
def test_invalid_number_is_refused_not_replaced_by_a_default(variable: str, value: str) -> None:
    section = variable.split("__")[1].title()
    code = f"import pipeline.settings as s; s.{section}Settings()"
    failed = run_command("python", "-c", code, **{variable: value})

    assert failed.returncode == 1
    assert f"'{value}' is not a" in failed.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("PIPELINE_POSTGRES_DSN", "PIPELINE__POSTGRES__DSN"),
        ("PIPELINE__POSTGRES_DSN", "PIPELINE__POSTGRES__DSN"),
        ("PIPELINE_STORAGE__ROOT", "PIPELINE__STORAGE__ROOT"),
        ("pipeline__storage__root", "PIPELINE__STORAGE__ROOT"),
        ("PIPELINE_LOADTRIPDATA_MAX_BAD_ROWS", "PIPELINE__LOADTRIPDATA__MAX_BAD_ROWS"),
    ],
)
def test_variable_with_wrong_underscores_is_refused_with_a_suggestion(
    luigi: Run, pipeline: Run, variable: str, suggestion: str
) -> None:
    for done in (pipeline("status", **{variable: SECRET}), luigi(*LOAD, **{variable: SECRET})):
        assert done.returncode == 1
        assert done.stderr == f"pipeline: {variable} is not read; did you mean {suggestion}?\n"


def test_variables_of_build_services_are_ignored(pipeline: Run) -> None:
    assert pipeline("help", PIPELINE_WORKSPACE="/builds", PIPELINE_ID="7").returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[postgress]\ndsn = x\n", "there is no section [postgress]; did you mean [postgres]?"),
        (
            "[LoadTripdata]\nmax_bad_row = 3\n",
            "[LoadTripdata] has no parameter 'max_bad_row'; did you mean max_bad_rows?",
        ),
        ("[ui]\nport = x\n", "[ui] port: 'x' is not a whole number from 1 on"),
        ("[alerts]\nwebhok_url = x\n", "[alerts] has no setting 'webhok_url'; did you mean webhook_url?"),
        ("no section\n", "a configuration file cannot be read: File contains no section headers. file: 'luigi.cfg'"),
        ("[storage]\nroot = Düne\n", "a configuration file cannot be read: luigi.cfg, line 2 is not UTF-8; save"),
        (
            "ï»¿[storage]\nroot = x\n",  # a byte order mark, in Latin-1
            "a configuration file cannot be read: File contains no section headers. file: 'luigi.cfg', line: 1"
            " '\\ufeff[storage]\\n'; save the file as UTF-8 without a byte order mark",
        ),
    ],
)
def test_mistake_in_luigi_cfg_is_reported_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "luigi.cfg").write_text(text, encoding="latin-1")
    failed = subprocess.run([BIN / "pipeline", "help"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f"pipeline: {message}") and failed.stderr.count("\n") == 1


def test_sections_of_other_projects_and_of_luigi_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text(
        "[DEFAULT]\nwhere = here\n[resources]\npostgres = 2\n"
        "[their_project]\nkey = 1\n[email]\nreceiver = me@example.org\n[hdfs]\nuser = x\n"
    )
    done = subprocess.run([BIN / "pipeline", "help"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_variable_of_an_unknown_section_is_refused(luigi: Run, pipeline: Run) -> None:
    for done in (pipeline("status", PIPELINE__POSTGRE__DSN=SECRET), luigi(*LOAD, PIPELINE__POSTGRE__DSN=SECRET)):
        assert done.returncode == 1
        assert done.stderr == (
            "pipeline: PIPELINE__POSTGRE__DSN: there is no section and no task 'postgre'; did you mean postgres?\n"
        )


def test_empty_variable_is_ignored(pipeline: Run) -> None:
    shown = pipeline("status", PIPELINE__POSTGRES__SCHEMA="", PIPELINE__SOURCE__BASE_URL="")

    assert shown.returncode == 0, shown.stderr


def test_missing_configuration_file_is_reported_in_one_line(tmp_path: Path) -> None:
    # Not the file bin/luigi, which may be Luigi's own program.
    luigi = [sys.executable, "-c", "import luigi_program; luigi_program.main()", "--module", "pipeline", *LOAD]
    for command in [BIN / "pipeline", "status"], luigi:
        failed = subprocess.run(
            command,
            env=os.environ | {"LUIGI_CONFIG_PATH": str(tmp_path / "central.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )

        assert failed.returncode == 1
        assert failed.stderr.startswith(f"pipeline: LUIGI_CONFIG_PATH: {tmp_path}") and failed.stderr.count("\n") == 1


def test_unescaped_percent_sign_in_luigi_cfg_is_reported_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text(f"[postgres]\ndsn = postgresql://me:{SECRET}@db/taxi\n")
    failed = subprocess.run([BIN / "pipeline", "status"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert failed.returncode == 1
    assert failed.stderr.startswith("pipeline: [postgres] dsn: write %% for %")
    assert_hidden(failed.stderr)


def test_password_is_neither_in_the_output_of_a_load_nor_in_the_arguments_of_psql(
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


def test_settings_are_listed_in_the_help_of_a_task() -> None:
    shown = run_command("luigi", "--module", "pipeline", "LoadTripdata", "--help-all").stdout
    for option in ("--source-base-url", "--storage-keep-raw", "--postgres-dsn", "--LoadTripdata-max-bad-rows"):
        assert option in shown


def assert_hidden(text: str) -> None:
    assert SECRET not in text
    assert "s3cret" not in text
