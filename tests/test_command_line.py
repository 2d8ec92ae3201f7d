"""Mistakes on Luigi's command line are reported in one line, with a suggestion, before anything is accessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run_command

GREEN = ("--taxi", "green", "--month", "2019-01")
RANGE = ("RangeMonthly", "--of", "LoadTripdata", "--of-params", '{"taxi":"green"}')


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ((), "no task is given; `pipeline tasks` lists them", 2),
        (("LoadTripdat", *GREEN), "there is no task LoadTripdat; did you mean LoadTripdata?", 2),
        (("loadtripdata", *GREEN), "there is no task loadtripdata; did you mean LoadTripdata?", 2),
        (("-h",), "-h: --help, after a task, shows its options", 2),
        (("LoadTripdata", "-h"), "-h: --help, after a task, shows its options", 2),
        (("RangeMonthly", "--of", ""), "--of : there is no task ''; `pipeline tasks` lists them", 2),
        (("Frobnicate",), "there is no task Frobnicate; `pipeline tasks` lists them", 2),
        (("postgres",), "postgres is a section of luigi.cfg, not a task; `pipeline tasks` lists them", 2),
        (("LoadTripdata", "--taxii", "green"), "LoadTripdata has no option --taxii; did you mean --taxi?", 2),
        (("LoadZones", "--frobnicate"), "LoadZones has no option --frobnicate; it has: --force\n", 2),
        (("SetupGcp", "--frobnicate"), "SetupGcp has no option --frobnicate; it has none of its own\n", 2),
        (("LoadTripdata", *GREEN, "--wrkers", "2"), "no option --wrkers; did you mean --workers?", 2),
        (("LoadTripdata", *GREEN, "--postgres-dns", "x"), "no option --postgres-dns; did you mean --postgres-dsn?", 2),
        (("LoadTripdata", *GREEN, "2019-02"), "what is '2019-02' for?", 2),
        (("Reprt", "--warehouse", "postgres"), "there is no task Reprt; did you mean Report?", 2),
        (
            ("--taxi", "green", "LoadTripdata"),
            "--taxi is an option of LoadTripdata and follows it: LoadTripdata --tax",
            2,
        ),
        (("LoadTripdata", "LoadTripdata", *GREEN), "what is 'LoadTripdata' for?", 2),
        (("LoadTripdata", *GREEN, "--force=maybe"), "--force=maybe: --force takes no value\n", 2),
        (("LoadTripdata", *GREEN, "--force", "maybe"), "what is 'maybe' for? --force takes no value\n", 2),
        (("LoadTripdata", *GREEN, "--LoadZones-force=1"), "--LoadZones-force takes no value\n", 2),
        (("LoadTripdata", "--taxi", "green", "--month"), "--month needs a value\n", 2),
        (("LoadTripdata", *GREEN, "--source", "--force"), "--source needs a value\n", 2),
        (("LoadTripdata", *GREEN, "--postgres-dsn", "-x"), "--postgres-dsn needs a value\n", 2),
        (
            ("LoadTripdata", "--month", "2019-01"),
            "LoadTripdata needs --taxi (which dataset: fhv, fhvhv, green, yellow)",
            40,
        ),
        (("LoadTripdata",), "and --month (which month, such as 2019-01); `pipeline tasks` has an example\n", 40),
        (("DbtBuild", "--full-refresh"), "DbtBuild needs --warehouse (which warehouse: postgres, bigquery)", 40),
        (("RangeMonthly", "--start", "2019-01"), "RangeMonthly needs --of (task name", 40),
        (("LoadTripdata", *GREEN, "--ExtractTripdata-month", "x"), "-month: 'x' is not a month such as 2019-01\n", 40),
        (("LoadTripdata", *GREEN, "--worker-timeout", "x"), "--worker-timeout: 'x' is not a whole number\n", 40),
        (("LoadTripdata", *GREEN, "--workers", "abc"), "--workers: 'abc' is not a whole number from 1 on", 40),
        (("LoadTripdata", *GREEN, "--workers=0"), "--workers: '0' is not a whole number from 1 on", 40),
        (("LoadTripdata", *GREEN, "--max-bad-rows", "-1"), "--max-bad-rows: '-1' is not a whole number from 0 on", 40),
        (("LoadTripdata", *GREEN, "--max-bad-rows", "x"), "--max-bad-rows: 'x' is not a whole number from 0 on", 40),
        (("LoadTripdata", "--taxi", "gren"), "--taxi gren: there is no such monthly dataset; there are: fhv,", 40),
        (("LoadTripdata", *GREEN, "--source", "foo"), "--source: 'foo' is not one of mirror, tlc\n", 40),
        (("DbtBuild", "--warehouse=foo"), "--warehouse: 'foo' is not one of postgres, bigquery\n", 40),
        (("LoadTripdata", *GREEN, "--postgres-copy-streams", "0"), "streams: '0' is not a whole number from 1 on", 40),
        (("LoadTripdata", *GREEN, "--storage-keep-raw=maybe"), "--storage-keep-raw: cannot interpret 'maybe'", 40),
        (("LoadTripdata", *GREEN, "--logs-format", "xml"), "'xml' is not one of plain, json, auto", 40),
        (("LoadTripdata", *GREEN, "--alerts-webhook-url", "s3cret"), "--alerts-webhook-url: not an http(s) URL\n", 40),
        (("LoadTripdata", *GREEN, "--schedule-start", "x"), "--schedule-start: 'x' is not a month such as 2019-01", 40),
        (("LoadTripdata", *GREEN, "--schedule-parameters", "[1]"), "parameters: '[1]' is not a JSON object such", 40),
        (("RangeMonthly", "--of", "LoadTripdat"), "--of LoadTripdat: there is no task LoadTripdat; did you mean", 2),
        ((*RANGE[:-1], '{"taxii":"green"}'), "LoadTripdata has no parameter taxii; did you mean taxi?", 2),
        (
            (*RANGE[:-1], "{taxi:green}"),
            "--of-params: '{taxi:green}' is not JSON such as '{\"taxi\": \"green\"}': E",
            40,
        ),
        ((*RANGE[:-1], "[1]"), """--of-params: '[1]' is not a JSON object such as '{"taxi": "green"}'\n""", 40),
        ((*RANGE[:-1], '"green"'), """-params: '"green"' is not a JSON object such as '{"taxi": "green"}'\n""", 40),
        ((*RANGE, "--start", "foo", "--stop", "2019-02"), "--start: 'foo' is not a month such as 2019-01\n", 40),
        ((*RANGE, "--stop=2019-13"), "--stop: '2019-13' is not a month such as 2019-01\n", 40),
        ((*RANGE, "--start", "2019-01", "--months-back", "x"), "--months-back: 'x' is not a whole number\n", 40),
        ((*RANGE, "--start", "2019-01", "--stop", "2019-01"), "contains no month", 35),
        ((*RANGE, "--start", "2019-10", "--stop", "2019-09"), "contains no month", 35),
    ],
)
def test_mistake_is_reported_in_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str, code: int) -> None:
    root = tmp_path / "none"
    failed = run_command("luigi", "--module", "pipeline", *arguments, PIPELINE__STORAGE__ROOT=str(root))

    assert failed.returncode == code, failed.stderr
    assert failed.stderr.startswith("luigi: ") and failed.stderr.count("\n") == 1
    assert message in failed.stderr
    assert not root.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--local-scheduler", "LoadTripdata", "--taxi", "green", "--month", "2031-05"),
        ("LoadTripdata", "--taxi", "green", "--month=2031-05", "--postgres-schema=x", "--log-level", "ERROR"),
        ("LoadTripdata", "--storage-keep-raw", "--LoadTripdata-taxi", "green", "--month", "x", "--month", "2031-05"),
        ("--taxi=green", "--force", "LoadTripdata", "--month", "2031-05"),
    ],
)
def test_arguments_that_luigi_accepts_are_passed_on_to_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    environment = {"PIPELINE__STORAGE__ROOT": str(tmp_path), "PIPELINE__POSTGRES__DSN": "host=127.0.0.1 port=1"}
    run = run_command("luigi", "--module", "pipeline", *arguments, **environment)

    assert run.returncode == 35, run.stderr
    assert "luigi: " not in run.stderr


def test_exit_codes_are_the_configured_ones(tmp_path: Path) -> None:
    codes = {"PIPELINE__RETCODE__UNHANDLED_EXCEPTION": "70", "PIPELINE__RETCODE__SCHEDULING_ERROR": "71"}
    for stop, code in (("x", 70), ("2019-01", 71)):
        line = ("luigi", "--module", "pipeline", *RANGE, "--start", "2019-01", "--stop", stop)
        assert run_command(*line, PIPELINE__STORAGE__ROOT=str(tmp_path), **codes).returncode == code


def test_required_parameter_may_be_configured(tmp_path: Path) -> None:
    environment = {"PIPELINE__STORAGE__ROOT": str(tmp_path), "PIPELINE__POSTGRES__DSN": "host=127.0.0.1 port=1"}
    line = ("luigi", "--module", "pipeline", "LoadTripdata", "--taxi", "green")
    run = run_command(*line, **environment, PIPELINE__LOADTRIPDATA__MONTH="2031-05")

    assert run.returncode == 35, run.stderr


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ('"max_bad_rows":-1', "max_bad_rows: '-1' is not a whole number from 0 on"),
        ('"source":"foo"', "source: 'foo' is not one of mirror, tlc"),
    ],
)
def test_invalid_value_in_of_params_is_reported_without_a_traceback(
    tmp_path: Path, parameter: str, message: str
) -> None:
    of_params = f'{{"taxi":"green",{parameter}}}'
    arguments = (*RANGE[:-1], of_params, "--start", "2019-01", "--stop", "2019-02")
    failed = run_command("luigi", "--module", "pipeline", *arguments, PIPELINE__STORAGE__ROOT=str(tmp_path))

    assert failed.returncode == 35
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr


def test_task_of_another_module_that_imports_the_package_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        "import luigi, pipeline\nclass Theirs(luigi.Task):\n    def complete(self):\n        return True\n"
    )
    done = run_command("luigi", "--module", "theirs", "Theirs", PYTHONPATH=str(tmp_path))

    assert done.returncode == 0, done.stderr
