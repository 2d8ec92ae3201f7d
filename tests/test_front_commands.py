"""`pipeline load`, `build`, `report` and `tasks`: Luigi's tasks in fewer words, with the line that does the same."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path

import pytest
from conftest import Run, execute, publish
from luigi.tools.range import RangeMonthly

import pipeline.tasks
from pipeline.command_line import check_command_line
from pipeline.commands.load import Months, Wanted
from pipeline.commands.tasks import example
from pipeline.datasets import dataset_named
from pipeline.errors import PipelineError
from pipeline.sample import write_zones
from pipeline.warehouses.postgres.connection import PostgresDatabase

MONTH = datetime.date(2019, 1, 1)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("2020-04", "2020-04", "2020-04"), ("2020-03..2020-07", "2020-03", "2020-07"), ("2020", "2020-01", "2020-12")],
)
def test_months_are_one_or_a_range_or_a_year(text: str, first: str, last: str) -> None:
    months = Months.parse(text)
    assert (f"{months.first:%Y-%m}", f"{months.last:%Y-%m}") == (first, last)


@pytest.mark.parametrize("text", ["2020-3", "2020-05..2020-04", "20", "2020-01..", "..2020-01", "2020-13"])
def test_what_are_no_months_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"2020|20|''"):
        Months.parse(text)


def test_range_is_cut_to_what_is_published_so_far() -> None:
    green, today = dataset_named("green"), datetime.datetime.now(datetime.UTC).date()
    assert Months.parse(f"{today.year}").within(green).last == today.replace(day=1)
    with pytest.raises(PipelineError, match="green is published for"):
        Months.parse("1999").within(green)


@pytest.mark.parametrize(
    ("months", "options", "line"),
    [
        ("2020-04", {}, "LoadTripdata --taxi green --month 2020-04"),
        ("2020-04", {"force": True}, "LoadTripdata --taxi green --month 2020-04 --force"),
        (
            "2020",
            {"workers": 2, "force": True},
            """RangeMonthly --of LoadTripdata --of-params '{"taxi": "green", "force": true}'"""
            " --start 2020-01 --stop 2021-01 --workers 2",
        ),
    ],
)
def test_luigi_line_says_the_same(months: str, options: dict[str, int], line: str) -> None:
    wanted = Wanted(dataset_named("green"), Months.parse(months), ("postgres",), **options)
    assert shlex.join(wanted.arguments("postgres")) == line
    check_command_line(wanted.arguments("bigquery"))


def test_range_is_loaded_and_a_second_time_does_nothing(
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


def test_exit_code_is_luigis(pipeline: Run) -> None:
    assert pipeline("load", "green", "2019-02").returncode == 30
    wrong = pipeline("load", "green", "2019-01", "--source", "nobody")
    assert (wrong.returncode, wrong.stderr.splitlines()[-1][:42]) == (1, "pipeline: green has no source called 'nobo")
    assert pipeline("load", "zones", "2019-01").stderr == "pipeline: zones has no months\n"
    assert pipeline("load", "green").stderr == "pipeline: green: which months? pipeline load green 2020-04\n"


def test_load_build_and_report_go_the_whole_way(
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
    forgotten = pipeline("forget", "--taxi", "green", "--month", "2019-01").stdout
    assert forgotten.endswith("hold it still. To rebuild: pipeline build --warehouse postgres\n")


def test_every_task_is_listed_with_an_example_that_luigi_understands(pipeline: Run) -> None:
    listed = pipeline("tasks").stdout
    for name in ("RangeMonthly", *pipeline_tasks()):
        assert f"{name}\n  " in listed
    assert "  --max-bad-rows   how many malformed rows may be set aside" in listed
    for task in (RangeMonthly, *pipeline_tasks().values()):
        check_command_line(example(task))
        assert shlex.join(example(task)) in listed


def pipeline_tasks() -> dict[str, type]:
    return {name: getattr(pipeline.tasks, name) for name in pipeline.tasks.__all__}
