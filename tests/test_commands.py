"""The `pipeline` command: status, psql, forget, stop and help, for users and for scripts."""

from __future__ import annotations

import datetime
import gzip
import json
import os
import re
import subprocess
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from conftest import BIN, CHECKOUT, Run, execute, publish, run_command, settings
from trips import FEBRUARY, HEADER, row_count, trip, trips, write_load_job
from waiting import lock_held

from pipeline.__main__ import main
from pipeline.commands.status import _print_table
from pipeline.datasets import dataset_named
from pipeline.progress import silent
from pipeline.sample import write_month, write_zones
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres import warehouse
from pipeline.warehouses.postgres.connection import LockTimeout, PostgresDatabase
from pipeline.warehouses.postgres.loading import load

LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")
COMMANDS = (
    "load",
    "build",
    "report",
    "tasks",
    "demo",
    "status",
    "forget",
    "psql",
    "adopt",
    "stop",
    "dbt",
    "schedule",
    "ui",
    "help",
)


def test_status_names_the_source_of_each_warehouse(capsys: pytest.CaptureFixture[str]) -> None:
    month, now = "green/2019-01", datetime.datetime.now(datetime.UTC)
    csv = LedgerEntry("Load", month, "green_tripdata", "https://mirror.example/a.csv", 1, "", 1, 1, 0, 0, 1, now)
    parquet = replace(csv, source_url="https://tlc.example/a.parquet")

    _print_table({"postgres": [csv], "bigquery": [parquet]})
    assert "https://mirror.example/a.csv; https://tlc.example/a.parquet\n" in capsys.readouterr().out
    _print_table({"postgres": [csv], "bigquery": [csv]})
    assert capsys.readouterr().out.count("https://") == 1


def test_status_shows_table_rows_and_source_of_each_load(luigi: Run, pipeline: Run, mirror: Path) -> None:
    write_zones(mirror)
    write_month(dataset_named("yellow"), datetime.date(2020, 2, 1), 50, mirror)
    luigi(*LOAD)
    luigi("LoadTripdata", "--taxi", "yellow", "--month", "2020-02")
    luigi("LoadZones")

    lines = pipeline("status").stdout.partition("\n\n")[0].splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["what", "table", "rows"],
        ["green/2019-01", "green_tripdata", "500"],
        ["zones", "taxi_zone_lookup", "265"],
        ["yellow/2020-02", "yellow_tripdata", "50"],
    ]
    assert lines[1].rstrip().endswith(f"{mirror}/green/green_tripdata_2019-01.csv.gz")
    assert "\x1b" not in "".join(lines)

    entries = json.loads(pipeline("status", "--json").stdout)
    assert [entry["partition_key"] for entry in entries] == ["green/2019-01", "zones", "yellow/2020-02"]
    assert entries[0]["rows_read"] == entries[0]["rows_loaded"] == 500
    assert datetime.datetime.fromisoformat(entries[0]["finished_at"]) <= datetime.datetime.now(datetime.UTC)

    for options, found in (
        (("green",), ["green/2019-01"]),
        (("green", "2018-12..2019-02"), ["green/2019-01"]),
        (("yellow", "2020"), ["yellow/2020-02"]),
        (("--taxi", "yellow"), ["yellow/2020-02"]),
        (("--taxi", "zones"), ["zones"]),
        (("--month", "2019-01"), ["green/2019-01"]),
        (("--taxi", "yellow", "--month", "2019-01"), []),
    ):
        shown = json.loads(pipeline("status", "--json", *options).stdout)
        assert [entry["partition_key"] for entry in shown] == found


def test_status_shows_a_grid_of_months(luigi: Run, pipeline: Run, mirror: Path) -> None:
    publish(mirror, "2019-04")
    for month in ("2019-01", "2019-04", "2019-03", "2013-12", "2150-01"):  # the last two are mistyped
        luigi(*LOAD[:-1], month)

    shown = pipeline("status").stdout
    assert "\ngreen      2019  +   -   !   +\n" in shown
    assert "models: not built yet; report: not written yet; rows in quarantine: 0\n" in shown
    found = json.loads(pipeline("status", "--grid", "--json").stdout)
    assert found["months"]["postgres"] == {
        "green": {"2019-01": "loaded", "2019-02": "missing", "2019-03": "failed", "2019-04": "loaded"}
    }
    assert [entry["partition_key"] for entry in found["loads"]] == ["green/2019-01", "green/2019-04"]
    reason = f"green 2019-03 does not exist at {mirror}/green/green_tripdata_2019-03.csv.gz"
    assert found["errors"]["postgres"]["green/2019-03"].startswith(reason)
    assert f"\ngreen/2019-03 failed: {reason}" in shown
    alone = pipeline("status", "green", "2019-03").stdout.splitlines()
    assert alone[0].startswith("Nothing of green 2019-03 is loaded.")
    assert alone[1].startswith(f"green/2019-03 failed: {reason}")
    assert "\ngreen      2019          !   +\n" in pipeline("status", "green", "2019-03..2019-04").stdout
    assert pipeline("status", "yellow", "--grid").stdout.startswith("Nothing of yellow is loaded.")


def test_status_and_forget_create_no_database(tmp_path: Path) -> None:
    root = tmp_path / "none"
    for command in (("status",), ("status", "--json"), ("forget", "green", "2019-01")):
        done = run_command("pipeline", *command, PIPELINE__STORAGE__ROOT=str(root))
        assert done.returncode == 0, done.stderr
    assert not (root / "postgres").exists()


def test_status_of_one_month_ends_with_a_command_to_query_it(luigi: Run, pipeline: Run) -> None:
    luigi(*LOAD)
    shown = pipeline("status", "green", "2019-01").stdout

    assert re.search(r"500 rows in \d+\.\d s \([\d,]+ rows/s\)", shown)
    assert "psql -c 'select count(*) from green_tripdata'" in shown


def test_status_without_loads_shows_the_command_to_load(pipeline: Run) -> None:
    assert pipeline("status").stdout == ("Nothing is loaded. To load it: pipeline load green 2019-01\n")
    assert pipeline("status", "--taxi", "fhv", "--month", "2020-03").stdout == (
        "Nothing of fhv 2020-03 is loaded. To load it: pipeline load fhv 2020-03\n"
    )
    assert pipeline("status", "fhvhv").stdout == (
        "Nothing of fhvhv is loaded. To load it: pipeline load fhvhv 2019-02\n"
    )
    assert pipeline("status", "zones").stdout.endswith(": pipeline load zones\n")
    assert pipeline("status", "--json").stdout == "[]\n"


@pytest.mark.parametrize("name", ["plain", 'Odd "name" \\ it'])
def test_psql_uses_the_configured_schema(luigi: Run, pipeline: Run, database: PostgresDatabase, name: str) -> None:
    schema = f"{database.schema} {name}"
    loaded = luigi(*LOAD, PIPELINE__POSTGRES__SCHEMA=schema)
    assert loaded.returncode == 0, loaded.stderr
    try:
        count = ("-c", "\\pset tuples_only", "-c", "SELECT count(*) FROM green_tripdata")
        counted = pipeline("psql", *count, PIPELINE__POSTGRES__SCHEMA=schema)
        assert counted.returncode == 0, counted.stderr
        assert counted.stdout.split()[-1] == "500"
    finally:
        quoted = schema.replace('"', '""')
        execute(replace(database, schema="public"), f'DROP SCHEMA "{quoted}" CASCADE')


def test_psql_accepts_its_own_options_and_those_of_the_dsn_and_fails_if_its_sql_fails(
    pipeline: Run, database: PostgresDatabase
) -> None:
    dsn = f"{database.dsn}&options=-c%20work_mem%3D4321kB"
    shown = pipeline("psql", "-c", "SHOW work_mem", "-c", "SHOW search_path", PIPELINE__POSTGRES__DSN=dsn)
    assert "4321kB" in shown.stdout and database.schema in shown.stdout

    bare = pipeline("psql", "-At", "-c", "SELECT 1, 2", "--field-separator=;")
    assert bare.stdout == "1;2\n"

    failed = pipeline("psql", "-c", "SELECT no_such_column", "-c", "SELECT 'went on'")
    assert failed.returncode != 0
    assert "no_such_column" in failed.stderr and "went on" not in failed.stdout


def test_psql_needs_no_installed_client(pipeline: Run, tmp_path: Path) -> None:
    shown = pipeline("psql", "-At", "-c", "SELECT 1", PATH=str(tmp_path))
    assert (shown.returncode, shown.stdout) == (0, "1\n"), shown.stderr


def test_forgotten_month_is_removed_everywhere_and_can_be_loaded_again(
    luigi: Run, pipeline: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    file = mirror / "green" / "green_tripdata_2019-01.csv.gz"
    file.write_bytes(b"\r\n".join([HEADER, *trips(10), trip(3), trip(11, fare_amount="free")]))
    write_month(dataset_named("green"), datetime.date(2019, 2, 1), 50, mirror)
    luigi(*LOAD, "--max-bad-rows", "1")
    luigi(*LOAD[:-1], "2019-02")
    raw = tmp_path / "data" / "raw" / "green" / file.name
    assert raw.exists()
    assert execute(database, "SELECT reason FROM load_quarantine ORDER BY 1") == [
        ("duplicate_in_file",),
        ("malformed",),
    ]

    shown = pipeline("forget", "green", "2019-01", "--dry-run")
    assert shown.stdout == f"green/2019-01: 10 rows in PostgreSQL; {raw}\n"
    assert raw.exists() and execute(database, "SELECT count(*) FROM green_tripdata") == [(60,)]

    forgotten = pipeline("forget", "green", "2019-01")
    assert forgotten.returncode == 0, forgotten.stderr
    assert forgotten.stdout == f"green/2019-01: removed from PostgreSQL; {raw} removed\n"
    assert execute(database, "SELECT partition_key FROM load_ledger") == [("green/2019-02",)]
    assert execute(database, "SELECT DISTINCT filename FROM green_tripdata") == [("green_tripdata_2019-02.csv",)]
    assert execute(database, "SELECT * FROM load_quarantine") == []
    assert not [path for path in raw.parent.iterdir() if path.name.startswith(raw.name)]

    again = pipeline("forget", "--taxi", "green", "--month", "2019-01")
    assert again.returncode == 0
    assert again.stdout == "green/2019-01: there is nothing to remove\n"
    assert luigi(*LOAD, "--max-bad-rows", "1").returncode == 0
    assert execute(database, "SELECT rows_loaded FROM load_ledger ORDER BY partition_key") == [(10,), (50,)]


def test_count_of_one_is_singular(pipeline: Run, mirror: Path) -> None:
    write_month(dataset_named("green"), datetime.date(2019, 2, 1), 1, mirror)

    loaded = pipeline("load", "green", "2019-02")
    shown = pipeline("forget", "green", "2019-02", "--dry-run")

    assert loaded.returncode == 0, loaded.stderr
    assert "green/2019-02: 1 row loaded into" in loaded.stderr
    assert "1 row in PostgreSQL" in shown.stdout


def test_files_that_lack_rows_after_forget_or_force_are_named(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    """Rows of February that January's file has too are set aside; they are missing once January has not got them."""
    files = {month: mirror / "green" / f"green_tripdata_{month}.csv.gz" for month in ("2019-01", "2019-02", "2019-03")}
    shared = [trip(number, FEBRUARY) for number in range(3)]

    def write(month: str, *lines: bytes) -> None:
        files[month].unlink(missing_ok=True)
        files[month].write_bytes(gzip.compress(b"\r\n".join([HEADER, *lines])))

    write("2019-01", *trips(10), *shared)
    write("2019-02", *trips(5, FEBRUARY))
    write("2019-03", *trips(5, datetime.date(2019, 3, 1)), trip(2, FEBRUARY))
    for month in files:
        assert pipeline("load", "green", month).returncode == 0
    assert "rows are missing" not in pipeline("load", "green", "2019-01", "--force").stderr

    def warning(month: str, rows: int) -> str:
        why = "because they were set aside as duplicates of another file's rows, which were removed since"
        remedy = "load this file again with --force"
        return f"green_tripdata_{month}.csv: {rows} rows are missing in PostgreSQL, {why}; {remedy}"

    write("2019-01", *trips(10), *shared[:2])
    forced = pipeline("load", "green", "2019-01", "--force").stderr
    for month in ("2019-02", "2019-03"):
        assert warning(month, 1) in forced
    forgotten = pipeline("forget", "green", "2019-01").stdout.splitlines()
    missing = [warning("2019-02", 3), warning("2019-03", 1)]
    assert forgotten[1:] == missing
    assert pipeline("status").stdout.splitlines()[-2:] == missing
    assert pipeline("status", "green", "2019-03").stdout.splitlines()[-1] == missing[1]
    assert missing[0] not in pipeline("status", "green", "2019-03").stdout
    shown = json.loads(pipeline("status", "--json").stdout)
    assert [(load["partition_key"], load["rows_missing"]) for load in shown] == [
        ("green/2019-02", 3),
        ("green/2019-03", 1),
    ]

    assert pipeline("load", "green", "2019-02", "--force").returncode == 0
    assert row_count(database) == 5 + 5
    assert "rows are missing" not in pipeline("load", "green", "2019-01", "--force").stderr
    assert "rows are missing" not in pipeline("status").stdout


def test_storage_root_that_is_a_file_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (("status",), ("ui",), ("stop",), ("forget", "green", "2019-01"), ("psql", "-c", "SELECT 1")):
        failed = run_command("pipeline", *words, PIPELINE__STORAGE__ROOT=str(tmp_path / "file"))
        assert (failed.returncode, failed.stderr) == (
            1,
            f"pipeline: [storage] root: {tmp_path / 'file'} is not a folder\n",
        )


def test_closed_output_is_not_an_error(tmp_path: Path, database: PostgresDatabase, mirror: Path) -> None:
    environment = os.environ | settings(tmp_path, database, mirror)
    for words in ("load green 2019-01", "status"):
        done = subprocess.run(f"{BIN}/pipeline {words} >&- 2>&-", shell=True, env=environment, check=False)
        assert done.returncode == 0
    assert execute(database, "SELECT partition_key FROM load_ledger") == [("green/2019-01",)]


def test_range_is_forgotten_month_by_month(
    pipeline: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    publish(mirror, "2019-02", "2019-04")
    pipeline("load", "green", "2019-01..2019-04")
    raw = tmp_path / "data" / "raw" / "green"

    shown = pipeline("forget", "green", "2019-02..2019-12", "--dry-run").stdout.splitlines()
    assert shown[-1] == "Would remove 2 of the 11 months 2019-02..2019-12"
    forgotten = pipeline("forget", "green", "2019-02..2019-12")
    assert forgotten.stdout.splitlines() == [
        *(
            f"green/{month}: removed from PostgreSQL; {raw}/green_tripdata_{month}.csv.gz removed"
            for month in ("2019-02", "2019-04")
        ),
        "Removed 2 of the 11 months 2019-02..2019-12",
    ]
    assert execute(database, "SELECT partition_key FROM load_ledger") == [("green/2019-01",)]
    assert pipeline("forget", "green", "2019").stdout.endswith("Removed 1 of the 12 months 2019-01..2019-12\n")
    assert execute(database, "SELECT count(*) FROM green_tripdata") == [(0,)]


def test_forget_requires_months_for_monthly_datasets_only(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    for words, message in (
        (("green",), "which months of green? For example: pipeline forget green 2020-04"),
        (("--taxi", "green"), "which months of green? For example: pipeline forget green 2020-04"),
        (("zones", "2019-01"), "zones is one file and has no months: pipeline forget zones"),
        ((), "which dataset, and which months? For example: pipeline forget green 2020-04"),
        (("green", "2019-01", "--month", "2019-02"), "the dataset and the months can be given only once"),
    ):
        wrong = pipeline("forget", *words)
        assert (wrong.returncode, wrong.stderr) == (2, f"pipeline forget: {message}\n")

    write_zones(mirror)
    pipeline("load", "zones")
    assert pipeline("forget", "zones").returncode == 0
    assert execute(database, "SELECT * FROM taxi_zone_lookup") == []
    assert execute(database, "SELECT * FROM load_ledger") == []


@pytest.mark.parametrize("words", [("--help",), ("status",), ("tasks",)])
def test_reader_that_ends_early_is_not_an_error(tmp_path: Path, words: tuple[str, ...]) -> None:
    command = [BIN / "pipeline", *words]
    environment = os.environ | {"PIPELINE__STORAGE__ROOT": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def test_missing_rights_are_reported_in_one_line(luigi: Run, pipeline: Run, database: PostgresDatabase) -> None:
    luigi(*LOAD)
    other_role = f"other_{database.schema}"
    execute(database, f"CREATE ROLE {other_role} LOGIN")
    try:
        dsn = database.dsn.replace("postgres@", f"{other_role}@")
        execute(database, f"GRANT USAGE ON SCHEMA {database.schema} TO {other_role}")
        refused = pipeline("status", PIPELINE__POSTGRES__DSN=dsn)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("pipeline: the ledger cannot be read: permission denied")
        assert refused.stderr.count("\n") == 1
    finally:
        execute(database, f"DROP OWNED BY {other_role}")
        execute(database, f"DROP ROLE {other_role}")


def test_status_needs_no_right_but_to_read_the_ledger(
    pipeline: Run, database: PostgresDatabase, tmp_path: Path
) -> None:
    load(database, write_load_job([*trips(5), trip(0, FEBRUARY)], tmp_path), silent)
    load(database, write_load_job(trips(5, FEBRUARY), tmp_path, FEBRUARY), silent)
    role = f"reader_{database.schema}"
    execute(database, f"CREATE ROLE {role} LOGIN")
    try:
        execute(database, f"GRANT USAGE ON SCHEMA {database.schema} TO {role}")
        execute(database, f"GRANT SELECT ON {database.schema}.load_ledger TO {role}")
        reader = {"PIPELINE__POSTGRES__DSN": database.dsn.replace("postgres@", f"{role}@")}
        shown, as_json = pipeline("status", **reader), pipeline("status", "--json", **reader)
    finally:
        execute(database, f"DROP OWNED BY {role}")
        execute(database, f"DROP ROLE {role}")
    assert (shown.returncode, as_json.returncode) == (0, 0)
    problem = "the duplicates in green_tripdata were not counted: permission denied"
    assert shown.stderr.startswith(problem)
    assert as_json.stderr.startswith(problem)
    assert [(load["rows_duplicate"], load["rows_missing"]) for load in json.loads(as_json.stdout)] == [
        (0, None),
        (1, None),
    ]


def test_duplicates_are_not_counted_while_another_session_has_locked_the_table(
    database: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse, "_LONGEST_WAIT_TO_COUNT", "10ms")
    load(database, write_load_job(trips(5), tmp_path), silent)
    with lock_held(database, "LOCK green_tripdata"), pytest.raises(LockTimeout, match="another session has locked it"):
        warehouse.PostgresWarehouse(database, database.schema).orphaned_duplicates(dataset_named("green"))


def test_stop_does_not_affect_an_external_server(pipeline: Run, database: PostgresDatabase) -> None:
    stopped = pipeline("stop")
    assert stopped.returncode == 0
    assert "no embedded PostgreSQL to stop" in stopped.stdout
    assert execute(database, "SELECT 1") == [(1,)]


def test_checkout_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.Distribution.discover", lambda **_: iter(()))
    with pytest.raises(PackageNotFoundError):
        version("tlc-pipeline")
    assert main(["help"]) == 0


def test_help_and_documentation_mention_every_command(pipeline: Run) -> None:
    shown = pipeline("help")
    assert shown.returncode == 0
    listed = re.findall(r"^    (\w+) +\w", shown.stdout, re.MULTILINE)
    assert tuple(listed) == COMMANDS
    assert shown.stdout == pipeline("--help").stdout
    assert pipeline("help", "load").stdout == pipeline("load", "--help").stdout
    assert re.fullmatch(r"pipeline \d+\.\d+\.\d+\n", pipeline("--version").stdout)

    text = "".join(path.read_text() for path in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")))
    for command in set(COMMANDS) - {"help"}:
        assert f"pipeline {command}" in text, f"`pipeline {command}` is not documented"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stauts",), "invalid choice: 'stauts'"),
        (("stauts",), "did you mean status?"),
        (("status", "--taxii", "green"), "unrecognized arguments: --taxii; did you mean --taxi?"),
        (
            ("status", "--postgres-schema", "x"),
            "pipeline status: unrecognized arguments: --postgres-schema; set PIPELINE__POSTGRES__SCHEMA instead\n",
        ),
        (
            ("load", "green", "2020-05", "--source-any-month", "true"),
            "unrecognized arguments: --source-any-month true; set PIPELINE__SOURCE__ANY_MONTH instead\n",
        ),
        (
            ("forget", "shuttle", "2021"),
            "; if its YAML file was removed, put it back, forget the dataset's months, and remove it again\n",
        ),
        (("forget", "--frob", "x"), "pipeline forget: unrecognized arguments: --frob\n"),
        (("LoadTripdata",), "LoadTripdata is a task: luigi --module pipeline LoadTripdata"),
        (("postgres", "start"), "invalid choice: 'postgres' (choose from 'load'"),
        (("load", "gren", "2020-04"), "did you mean green?"),
        (("load", "green", "2020-04", "2020-05"), "several months are given as a range: 2020-03..2020-07"),
        (("load", "green", "2020-4"), "'2020-4' is not a month (2020-04), a range (2020-03..2020-07) or a year (2020)"),
        (("load", "green", "2020-01.."), "'2020-01..' is not a month (2020-04), a range"),
        (("load", "green", "2020-05", "--worker", "2"), "--worker 2; did you mean --workers?"),
        (("Load", "green"), "did you mean load?"),
        (("load", "green", "2020-05..2020-03"), "'2020-05..2020-03' is empty"),
        (("load", "green", "2020-05", "--workers", "0"), "'0' is not a whole number from 1 on"),
        ((), "no command is given; pipeline help lists them"),
        (("schedule", "gren", "--once"), "did you mean green?"),
        (
            ("status", "--taxi", "geen"),
            "invalid choice: 'geen' (choose from 'fhv', 'fhvhv', 'green', 'yellow', 'zones')",
        ),
        (("forget", "--taxi", "green", "--month", "2019-13"), "'2019-13' is not a month (2020-04)"),
    ],
)
def test_invalid_arguments_exit_with_2_and_are_reported_in_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    errors = capsys.readouterr().err
    assert end.value.code == 2
    assert message in errors and errors.count("\n") == 1
