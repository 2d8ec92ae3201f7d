"""`pipeline load`, `build`, `report` and `tasks`: short commands for Luigi tasks, which print the `luigi` command."""

from __future__ import annotations

import datetime
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, execute, publish
from luigi.tools.range import RangeMonthly
from trips import HEADER, trip, trips

import pipeline.tasks
from pipeline.command_line import check_command_line
from pipeline.commands.tasks import example
from pipeline.datasets import dataset_named
from pipeline.datasets.month_range import Months
from pipeline.errors import PipelineError
from pipeline.extract.locations import RELEASE_MIRROR
from pipeline.sample import write_zones
from pipeline.tasks.load import load_arguments
from pipeline.warehouses.postgres.connection import PostgresDatabase

MONTH = datetime.date(2019, 1, 1)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2020-04", "2020-04", "2020-04"),
        ("2020-03..2020-07", "2020-03", "2020-07"),
        ("2020", "2020-01", "2020-12"),
        ("2019..2020", "2019-01", "2020-12"),
        ("2019-11..2020", "2019-11", "2020-12"),
    ],
)
def test_months_are_a_month_a_range_or_a_year(text: str, first: str, last: str) -> None:
    months = Months.parse(text)
    assert (f"{months.first:%Y-%m}", f"{months.last:%Y-%m}") == (first, last)


@pytest.mark.parametrize("text", ["2020-3", "2020-05..2020-04", "20", "2020-01..", "..2020-01", "2020-13"])
def test_invalid_months_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{re.escape(text)}' is (not a month|empty)"):
        Months.parse(text)


def test_range_ends_with_the_last_month_published_so_far() -> None:
    green, today = dataset_named("green"), datetime.datetime.now(datetime.UTC).date()
    assert Months.parse(f"{today.year}").published(green).last == today.replace(day=1)
    with pytest.raises(PipelineError, match=r"1999-01\.\.1999-12 of green cannot be loaded, only 2014-01 onwards"):
        Months.parse("1999").published(green)
    with pytest.raises(PipelineError, match="is in the future"):
        Months.parse(f"{today.year + 1}").until_now()


@pytest.mark.parametrize(
    ("months", "parameters", "workers", "line"),
    [
        ("2020-04", {}, 1, "LoadTripdata --taxi green --month 2020-04"),
        ("2020-04", {"force": True}, 1, "LoadTripdata --taxi green --month 2020-04 --force"),
        (
            "2020",
            {"force": True},
            2,
            """RangeMonthly --of LoadTripdata --of-params '{"taxi": "green", "force": true}'"""
            " --start 2020-01 --stop 2021-01 --workers 2",
        ),
        (
            "2020-04",
            {"source": "tlc", "max_bad_rows": 3},
            1,
            "LoadTripdata --taxi green --month 2020-04 --source tlc --max-bad-rows 3",
        ),
        (
            "2020-04..2020-05",
            {"source": "mirror"},
            1,
            """RangeMonthly --of LoadTripdata --of-params '{"taxi": "green", "source": "mirror"}'"""
            " --start 2020-04 --stop 2020-06",
        ),
    ],
)
def test_months_to_load_are_translated_into_a_luigi_command(
    months: str, parameters: dict[str, Any], workers: int, line: str
) -> None:
    arguments = load_arguments("postgres", dataset_named("green"), Months.parse(months), parameters, workers)
    assert shlex.join(arguments) == line
    check_command_line(arguments)


def test_range_is_loaded_and_the_printed_luigi_command_does_nothing_more(
    pipeline: Run, luigi: Run, database: PostgresDatabase, mirror: Path
) -> None:
    publish(mirror, "2019-02")
    done = pipeline("load", "green", "2019-01..2019-02", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert execute(database, "SELECT partition_key FROM load_ledger ORDER BY 1") == [
        ("green/2019-01",),
        ("green/2019-02",),
    ]
    line = next(line for line in done.stderr.splitlines() if line.startswith("luigi --module pipeline "))
    again = luigi(*shlex.split(line)[3:])
    assert again.returncode == 0 and "Did not run any tasks" in again.stderr


def test_source_named_by_an_option_is_asked_for_all_months(
    pipeline: Run, database: PostgresDatabase, tmp_path: Path
) -> None:
    own_source = tmp_path / "copy"
    publish(own_source, "2013-12", "2014-01")  # green is published from 2014-01
    done = pipeline("load", "green", "2013-12..2014-01", "--source-base-url", str(own_source))
    assert done.returncode == 0, done.stderr
    assert execute(database, "SELECT partition_key, source_url FROM load_ledger ORDER BY 1") == [
        (f"green/{month}", f"{own_source}/green/green_tripdata_{month}.csv.gz") for month in ("2013-12", "2014-01")
    ]
    tlc = tmp_path / "tlc"
    tlc.mkdir()
    sources = ("--source-base-url", str(own_source), "--source-tlc-base-url", str(tlc))
    missing = pipeline("load", "green", "2014-01..2014-02", *sources)
    assert missing.returncode == 30
    assert missing.stderr.partition("\n")[0].endswith(" ".join(sources))
    assert re.search(f"green 2014-02 does not exist at {tlc}/.* or {own_source}/", missing.stderr)


@pytest.mark.parametrize(
    ("month", "reason"),
    [
        ("2010-12", "2010-12 of yellow cannot be loaded, only 2011-01 onwards (the files of 2009 and 2010 have other"),
        ("2199-01", "2199-01 is in the future"),
    ],
)
def test_month_that_no_source_publishes_is_refused_before_anything_runs(
    pipeline: Run, tmp_path: Path, month: str, reason: str
) -> None:
    refused = pipeline("load", "yellow", month, "--source-base-url", RELEASE_MIRROR)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(f"pipeline: {reason}")
    assert not (tmp_path / "data" / "logs").exists()


def test_malformed_rows_are_set_aside_up_to_max_bad_rows(
    pipeline: Run, database: PostgresDatabase, mirror: Path
) -> None:
    (mirror / "green" / "green_tripdata_2019-01.csv.gz").write_bytes(
        b"\r\n".join([HEADER, *trips(10), trip(11, fare_amount="free")])
    )
    assert pipeline("load", "green", "2019-01").returncode == 30
    environment = {"PIPELINE__LOADTRIPDATA__MAX_BAD_ROWS": "1"}
    assert pipeline("load", "green", "2019-01", "--max-bad-rows", "0", **environment).returncode == 30
    assert pipeline("load", "green", "2019-01", "--max-bad-rows", "1").returncode == 0
    assert execute(database, "SELECT rows_loaded, rows_rejected FROM load_ledger") == [(10, 1)]


def test_exit_code_is_that_of_luigi_or_2_for_invalid_arguments(pipeline: Run) -> None:
    assert pipeline("load", "green", "2019-02").returncode == 30
    for arguments, message in (
        (("green", "2019-01", "--source", "nobody"), "green has no source called 'nobody'; it has: mirror, tlc"),
        (("zones", "2019-01"), "zones is one file and has no months: pipeline load zones"),
        (("green",), "which months of green? For example: pipeline load green 2020-04"),
        (("zones", "--max-bad-rows", "1"), "LoadZones does not take --max-bad-rows"),
    ):
        refused = pipeline("load", *arguments)
        assert (refused.returncode, refused.stderr) == (2, f"pipeline load: {message}\n")


@pytest.mark.models
def test_load_build_and_report_bring_a_month_into_the_report(
    pipeline: Run, mirror: Path, tmp_path: Path, database: PostgresDatabase
) -> None:
    write_zones(mirror)
    assert pipeline("load", "green", "2019-01").returncode == 0
    built = pipeline("build")
    assert built.returncode == 0, built.stderr
    assert "luigi --module pipeline DbtBuild --warehouse postgres" in built.stderr
    reported = pipeline("report")
    assert reported.returncode == 0, reported.stderr
    assert reported.stdout == (tmp_path / "data" / "reports" / "postgres" / "index.html").as_uri() + "\n"
    assert execute(database, "SELECT count(*) > 0 FROM fact_trips") == [(True,)]
    assert "models: current; report: current; " in pipeline("status").stdout
    forgotten = pipeline("forget", "green", "2019-01").stdout
    assert forgotten.endswith("The models in PostgreSQL still hold it: pipeline build --warehouse postgres\n")


def test_every_task_is_listed_with_a_valid_example(pipeline: Run) -> None:
    listed = pipeline("tasks").stdout
    for name in ("RangeMonthly", *pipeline_tasks()):
        assert f"{name}\n  " in listed
    assert "  --max-bad-rows   how many malformed rows may be set aside" in listed
    for task in (RangeMonthly, *pipeline_tasks().values()):
        check_command_line(example(task))
        assert shlex.join(example(task)) in listed


def pipeline_tasks() -> dict[str, type]:
    return {name: getattr(pipeline.tasks, name) for name in pipeline.tasks.__all__}
