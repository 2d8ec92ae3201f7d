"""DbtBuild: it runs only if something has changed, reports what failed, and keeps dbt's artifacts of each run."""

from __future__ import annotations

import datetime
import functools
import json
import os
import re
import runpy
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import CHECKOUT, Run, execute, file_size_limit, run_copy, settings, start_command
from forked import ForkedProcess
from waiting import lock_held, wait_until_blocked

from pipeline import transform
from pipeline.datasets import dataset_named
from pipeline.errors import PipelineError
from pipeline.transform import DbtCommand, build_with, dbt_process, modelled_datasets, wanted_build
from pipeline.transform.dbt_process import LogLine
from pipeline.warehouses import DbtProfile
from pipeline.warehouses.ledger import LedgerEntry
from pipeline.warehouses.postgres.connection import ConnectionLost, PostgresDatabase
from pipeline.warehouses.postgres.warehouse import PostgresWarehouse

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("golden_mirror")]

BUILD = ("DbtBuild", "--warehouse", "postgres")
LOAD = ("LoadTripdata", "--taxi", "green", "--month", "2019-01")


def test_build_runs_only_if_months_have_changed(
    luigi: Run, pipeline: Run, database: PostgresDatabase, tmp_path: Path
) -> None:
    luigi(*LOAD)
    first = luigi(*BUILD)
    assert first.returncode == 0, first.stderr
    assert "OK created sql by_file model" in first.stderr
    assert execute(database, "SELECT count(*) FROM fact_trips") == [(6,)]
    [run] = (tmp_path / "data" / "dbt" / "runs").iterdir()
    assert {"manifest.json", "run_results.json", "dbt.log"} <= {file.name for file in run.iterdir()}
    assert len(json.loads((run / "run_results.json").read_text())["results"]) > 25

    second = luigi(*BUILD)
    assert second.returncode == 0, second.stderr
    assert "Did not run any tasks" in second.stderr

    # Another dbt project with the same names replaces a mart, and then the zone look-up.
    for name, columns in (("dim_zones", "1 AS locationid"), ("taxi_zone_lookup", "*")):
        execute(database, f"ALTER TABLE {name} RENAME TO ours")
        execute(database, f"CREATE TABLE {name} AS SELECT {columns} FROM ours")
        refused = luigi(*BUILD)
        assert refused.returncode == 30 and "Traceback" not in refused.stderr, refused.stderr
        assert f"{database.schema}.{name}; nothing was built. Rename or drop it" in refused.stderr
        assert execute(database, "SELECT count(*) FROM dbt_build WHERE finished_at IS NOT NULL") == [(1,)]
        execute(database, f"DROP TABLE {name}; ALTER TABLE ours RENAME TO {name}")
        assert "Did not run any tasks" in luigi(*BUILD).stderr

    for number in range(25):
        (run.parent / f"20200101T0000{number:02}.000000Z-postgres-build").mkdir()
    pipeline("forget", "--taxi", "green", "--month", "2019-01")
    assert luigi(*BUILD).returncode == 0
    assert execute(database, "SELECT count(*) FROM fact_trips") == [(0,)]
    kept = sorted(folder.name for folder in run.parent.iterdir())
    assert len(kept) == 20 and run.name in kept and "20200101T000006.000000Z-postgres-build" not in kept


def test_models_are_current_in_the_time_zone_of_every_role() -> None:
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    counts = {"source_bytes": 1, "rows_read": 1, "rows_loaded": 1, "rows_duplicate": 0, "rows_rejected": 0}
    load = LedgerEntry(
        "LoadTripdata", "green/2019-01", "green_tripdata", "", source_sha256="", spec_version=1, started_at=at, **counts
    )
    in_tokyo = at.astimezone(datetime.timezone(datetime.timedelta(hours=9)))
    again = at + datetime.timedelta(seconds=1)
    first, same, later = (wanted_build([replace(load, finished_at=each)], {}) for each in (at, in_tokyo, again))

    assert first.loads_digest == same.loads_digest != later.loads_digest


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("test", "no model has been built yet, so there is nothing to test; first: pipeline build"),
        ("build", "the taxi zones are not loaded, and the models need them; first: pipeline load zones"),
    ],
)
def test_dbt_command_that_would_do_nothing_is_refused(pipeline: Run, command: str, message: str) -> None:
    refused = pipeline("dbt", command)
    assert (refused.returncode, refused.stderr) == (1, f"pipeline: {message} --warehouse postgres\n")


def test_build_by_hand_counts_as_a_build(luigi: Run, pipeline: Run, built: PostgresDatabase) -> None:
    # As docs/new-dataset.md recommends; the next build creates the views again.
    dropped = pipeline("psql", "-c", "drop table green_tripdata cascade")
    assert dropped.returncode == 0, dropped.stderr
    assert pipeline("forget", "green", "2019-01..2019-02").returncode == 0

    by_hand = pipeline("dbt", "build")
    assert by_hand.returncode == 0, by_hand.stdout
    assert execute(built, "SELECT count(*) FROM stg_green_tripdata") == [(0,)]
    assert "Did not run any tasks" in luigi(*BUILD).stderr


def test_model_run_by_hand_waits_for_a_build_and_does_not_count_as_one(
    pipeline: Run, built: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    environment = settings(tmp_path, built, mirror)
    warehouse = PostgresWarehouse(built, built.schema)
    before = warehouse.last_build()
    assert before and before.finished_at

    with warehouse.build_lock():
        by_hand = start_command("pipeline", "dbt", "run", "--select", "dim_zones", **environment)
        wait_until_blocked(built, "SELECT pg_advisory_lock")
    assert by_hand.wait(timeout=60) == 0, by_hand.communicate()
    after = warehouse.last_build()
    assert after and (after.models_digest, after.finished_at) == (before.models_digest, None)

    # Rows that are not those of the setting: the next build replaces them all.
    others = pipeline("dbt", "run", "--vars={known_vendors_only: true}", "--select", "int_trips")
    assert others.returncode == 0, others.stdout
    assert "unknown vendor" in execute(built, "SELECT pg_get_viewdef('int_trips'::regclass)")[0][0]
    assert (after := warehouse.last_build()) and after.models_digest == ""


def test_ctrl_c_lets_dbt_cancel_its_queries_and_end(built: PostgresDatabase, mirror: Path, tmp_path: Path) -> None:
    with lock_held(built, "LOCK TABLE taxi_zone_lookup"):
        by_hand = start_command(
            *("pipeline", "dbt", "run", "--select", "dim_zones"),
            process=functools.partial(ForkedProcess, start_new_session=True),
            **settings(tmp_path, built, mirror),
        )
        wait_until_blocked(built, r"/\* .*dim_zones")
        os.killpg(by_hand.pid, signal.SIGINT)
        output, _ = by_hand.communicate(timeout=60)
    assert by_hand.returncode == 2 and "CANCEL query model.tlc.dim_zones" in re.sub(r"\x1b\[\d*m", "", output), output


def test_dbt_debug_runs_each_time_and_writes_the_password_to_no_file_and_no_log(
    luigi: Run, database: PostgresDatabase, tmp_path: Path
) -> None:
    with_password = f"{database.dsn}&password=hush-hush&sslmode=prefer"

    for _ in range(2):
        done = luigi(*BUILD, "--command", "debug", PIPELINE__POSTGRES__DSN=with_password)
        assert done.returncode == 0, done.stderr
        assert "All checks passed!" in done.stderr

    assert PostgresWarehouse(replace(database, dsn=with_password), "marts", 1).dbt_profile().environment.items() >= {
        ("DBT_ENV_SECRET_POSTGRES_PASSWORD", "hush-hush"),
        ("PGSSLMODE", "prefer"),
        ("TLC_POSTGRES_USER", "postgres"),
    }
    file_contents = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
    assert b"All checks passed!" in file_contents
    assert b"hush-hush" not in file_contents
    assert "hush-hush" not in done.stderr + done.stdout


def test_two_builds_at_the_same_time_run_dbt_once(
    luigi: Run, database: PostgresDatabase, mirror: Path, tmp_path: Path
) -> None:
    luigi(*LOAD)
    environment = settings(tmp_path, database, mirror)

    builds = [start_command("luigi", "--module", "pipeline", *BUILD, **environment) for _ in range(2)]
    outputs = [build.communicate(timeout=100)[0] for build in builds]

    assert [build.returncode for build in builds] == [0, 0], outputs
    assert sum("Completed successfully" in output for output in outputs) == 1
    assert execute(database, "SELECT count(*) FROM fact_trips") == [(6,)]


def test_build_that_lost_its_lock_does_not_count(database: PostgresDatabase) -> None:
    """A log tells users to end the session that blocks another build."""
    warehouse = PostgresWarehouse(database, database.schema)
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"

    def run(_: DbtCommand) -> bool:
        assert execute(database, end) == [(True,)]
        return True

    with pytest.raises(ConnectionLost, match="the models are not locked"):
        build_with(warehouse, DbtCommand(), {}, run)

    started = warehouse.last_build()
    assert started and started.finished_at is None


def test_changed_model_is_built_again_and_its_failure_is_reported_with_the_line(
    built: PostgresDatabase, mirror: Path, tmp_path: Path, checkout: Path
) -> None:
    model = checkout / "dbt" / "models" / "marts" / "dim_zones.sql"

    def build() -> subprocess.CompletedProcess[str]:
        return run_copy(checkout, *BUILD, **settings(tmp_path, built, mirror))

    assert "Did not run any tasks" in build().stderr
    model.write_text(model.read_text().replace("    zone,", "    zoen,"))
    failed = build()
    assert failed.returncode == 30
    [line] = [line for line in failed.stderr.splitlines() if "ERROR: failed " in line]
    assert "dbt build: Database Error in model dim_zones (models/marts/dim_zones.sql)" in line
    assert 'column "zoen" does not exist' in line and "zoen, ^" in line
    assert "Traceback" not in failed.stderr


def test_selected_model_is_built_in_the_schema_of_the_setting(luigi: Run, database: PostgresDatabase) -> None:
    ran = luigi(*BUILD, "--command", "run", "--select", "dim_zones", PIPELINE__DBT__SCHEMA=f"{database.schema}_marts")
    assert ran.returncode == 0, ran.stderr
    try:
        assert execute(database, f"SELECT count(*) FROM {database.schema}_marts.dim_zones") == [(6,)]
    finally:
        execute(database, f"DROP SCHEMA {database.schema}_marts CASCADE")


def test_traceback_in_dbts_log_is_left_out_of_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    message = (
        "Encountered an error:\\n[Errno 28] No space left on device\\nTraceback (most recent call last):\\n  File x"
    )
    line = f'{{"info": {{"level": "error", "msg": "{message}"}}, "data": {{}}}}'
    child = tmp_path / "child.py"
    child.write_text(f"import sys\nsys.stdin.readline()\nprint({line!r})\nsys.exit(1)\n")
    monkeypatch.setattr(dbt_process, "_CHILD", child)
    profile = DbtProfile("postgres", {})

    with pytest.raises(PipelineError) as failed:
        dbt_process.invoke(["build"], profile, {}, tmp_path / "dbt", lambda line: None)

    assert str(failed.value).startswith(
        "dbt build: Encountered an error: [Errno 28] No space left on device; the log is"
    )


def test_build_goes_on_if_dbt_takes_a_key_of_its_log_for_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = '{"info": {"*****": "info", "msg": "Running with dbt"}, "data": {}}'  # the password is "level"
    child = tmp_path / "child.py"
    child.write_text(f"import sys\nsys.stdin.readline()\nprint({line!r})\n")
    monkeypatch.setattr(dbt_process, "_CHILD", child)
    logged: list[LogLine] = []

    dbt_process.invoke(["build"], DbtProfile("postgres", {}), {}, tmp_path / "dbt", logged.append)

    assert logged == [LogLine("warn", line)]


def test_settings_of_the_role_do_not_change_what_dbt_writes(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("statement_timeout=7s", r"default_transaction_isolation=repeatable\ read", "extra_float_digits=0")
    given = quote(" ".join(f"-c {option}" for option in (*options, "work_mem=5MB")))
    other = replace(database, dsn=f"{database.dsn}&options={given}")
    for warehouse in (database, other):
        profile = PostgresWarehouse(warehouse, database.schema, dbt_threads=1).dbt_profile()
        assert bool(profile.environment["PGOPTIONS"]) == (warehouse is other)  # a pooler may refuse options
        for name, value in profile.environment.items():
            monkeypatch.setenv(name, value)
        shown = [execute(database, f"SHOW {option.partition('=')[0]}") for option in options]
        assert shown == [[("0",)], [("read committed",)], [("1",)]]

    assert execute(database, "SHOW work_mem") == [("5MB",)]


def test_full_disk_is_reported_in_one_line_and_without_tracebacks_of_the_log(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    profile = PostgresWarehouse(database, database.schema, dbt_threads=1).dbt_profile()
    logged: list[LogLine] = []

    with file_size_limit(3000), pytest.raises(PipelineError) as failed:
        dbt_process.invoke(["parse"], profile, {}, tmp_path, logged.append)

    assert re.fullmatch(r"dbt parse: Encountered an error: .*File too large.*; the log is in \S+", str(failed.value))
    assert not [line for line in logged if "Traceback" in line.message or line.level == "warn"]


def test_sources_file_agrees_with_the_dataset_specs() -> None:
    assert [dataset.name for dataset in modelled_datasets()] == ["fhv", "fhvhv", "green", "yellow", "zones"]
    script = runpy.run_path(str(CHECKOUT / "scripts" / "dbt_sources.py"))
    assert script["SOURCES"].read_text() == script["sources_yaml"](), "run: make sources"


def test_models_refuse_a_dataset_whose_files_are_not_named_like_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    green = dataset_named("green")
    renamed = replace(green, sources=(replace(green.sources[0], path="green/taxi-trips-{month}.csv.gz"),))
    monkeypatch.setattr(transform, "all_datasets", lambda: {"green": renamed})

    message = r"named like taxi-trips-2019-01\.csv, not like its table green_tripdata; forget the months that"
    with pytest.raises(PipelineError, match=message):
        modelled_datasets()
    assert transform.is_modelled(renamed)  # so that `pipeline forget`, which the message asks for, works
