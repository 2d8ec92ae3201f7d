"""The SQL for BigQuery: Google's own analyzer accepts it for any dataset, and row ids are the same as in PostgreSQL."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import execute
from gcp import GoogleCloud
from gcp_trips import load_lines
from google.cloud.bigquery import SchemaField
from trips import FEBRUARY, write_load_job

from pipeline.datasets import Column, Dataset, Release, all_datasets, dataset_named
from pipeline.datasets.spec import LEDGER, QUARANTINE
from pipeline.files import named_statements
from pipeline.progress import silent
from pipeline.warehouses.bigquery import sql_text
from pipeline.warehouses.bigquery.client import GoogleProject
from pipeline.warehouses.bigquery.file_rows import FileRows
from pipeline.warehouses.bigquery.ledger import LOCK, ledger_fields
from pipeline.warehouses.bigquery.markers import COLUMNS
from pipeline.warehouses.bigquery.sql_text import column_text, days_condition, quoted, statement
from pipeline.warehouses.bigquery.staging import StagedFile
from pipeline.warehouses.bigquery.tables import quarantine_fields, staging_fields, table_fields
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

PLACE = GoogleProject("my-project", "US", "my-bucket", "tlc", 0)
STAGING = "my-project.tlc_staging.staged"
DAYS = (datetime.date(2019, 1, 1), datetime.date(2041, 2, 3), None)

EVERY_TYPE = {
    "BigInt": ("bigint", "INT64"),
    "Double": ("double precision", "FLOAT64"),
    "Amount": ("double precision", "NUMERIC"),
    "Flag": ("boolean", "BOOL"),
    "Day": ("date", "DATE"),
    "At": ("timestamp", "TIMESTAMP"),
    **dict.fromkeys(("select", "place", "loaded", "other", "identified"), ("text", "STRING")),
    **dict.fromkeys(("nth", "key_text", "row_text", "null_texts", "place_in_key"), ("text", "STRING")),
}
INVENTED = replace(
    dataset_named("green"),
    name="invented",
    table="invented",
    columns=tuple(Column(name, *types, "What it is.") for name, types in EVERY_TYPE.items()),
    row_key=tuple(name.lower() for name in EVERY_TYPE),
    event_time="at",
    key_blanks={},
    lines_in_quotes=True,
)
SPECS = [*all_datasets().values(), INVENTED]

# Values whose texts could differ between the warehouses, by the column's types in PostgreSQL and in BigQuery.
TIMES = ["2020-04-01 00:44:02", "2020-04-01 00:44:02.5", "2020-04-01 00:44:02.12345", "2020-12-31 23:59:59.999999"]
NUMBERS = ["0", "-3.5", "0.79", ".79", "100000", "1e14", "1e15", "999999999999999", "0.0001", "0.00001", "0.123456789"]
VALUES = {
    ("double precision", "NUMERIC"): [*NUMBERS, "-1e20", "123456789.123456789", "8.90"],
    ("double precision", "FLOAT64"): [*NUMBERS, "1e99", "-1e-99", "0.1000000000000000055511151231257827", "1e22"],
    ("bigint", "INT64"): ["0", "-9223372036854775808", "9223372036854775807", "007"],
    ("integer", "INT64"): ["1", "-5"],
    ("integer", "STRING"): ["1", "-5"],
    ("boolean", "BOOL"): ["true", "false"],
    ("date", "DATE"): ["2020-02-29", "0987-01-01"],
    ("timestamp", "TIMESTAMP"): [*TIMES, "0987-01-01 00:00:00", "2041-01-01 12:00:00.100"],
    ("text", "STRING"): ["", " a ", 'it\'s "quoted"', "back\\slash", "ß漢\U0001f695", "two\nlines", "NULL"],
}
EdgeCase = tuple[tuple[str, str], str | None]
EDGE_CASES: list[EdgeCase] = [(types, value) for types, values in VALUES.items() for value in [*values, None]]


def statements_for(dataset: Dataset) -> Iterator[str]:
    """Every statement that the pipeline runs for a dataset, with and without days and a column that the file lacks."""
    for days, columns in ((DAYS, dataset.column_names), ((), dataset.column_names[:-1])):
        rows = FileRows(PLACE, Release(dataset, FEBRUARY if dataset.is_monthly else None), days)
        yield from statements_in(rows.load_script(StagedFile(STAGING, 3, days, columns, "job")))
        yield from statements_in(rows.forget_script({dataset.table, QUARANTINE}))
        if dataset.is_monthly:
            yield from (rows.checksums_query(), rows.duplicate_days_query(), rows.orphaned_duplicates_query())
    if dataset.is_monthly:
        yield statement("select_days", event_time=dataset.event_time or "", staging=quoted(STAGING))
    lock, ledger = quoted(PLACE.table_id(LOCK)), quoted(PLACE.table_id(LEDGER))
    yield statement("create_lock", lock=lock, name=LEDGER)
    yield statement("select_snapshot", lock=lock, ledger=ledger, name=LEDGER)
    yield statement("select_loaded", ledger=ledger)


def statements_in(script: str) -> Iterator[str]:
    """The statements of a transaction, for the analyzer to check one at a time; the condition of an IF as a query."""
    from gcp_emulator.jobs import split

    for piece in split(script)[1:-1]:
        condition, _, rest = piece.rpartition(" THEN\n") if piece.startswith("IF ") else ("", "", piece)
        yield from [condition.replace("IF", "SELECT", 1)] if condition else []
        yield from [rest] if rest != "END IF" else []


def tables_of(dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """The schemas of the tables in the statements, as BigQuery's REST API writes them."""
    fields = {
        PLACE.table_id(dataset.table): table_fields(dataset),
        PLACE.table_id(QUARANTINE): quarantine_fields(),
        PLACE.table_id(LEDGER): ledger_fields(),
        PLACE.table_id(LOCK): [SchemaField("ledger", "STRING"), SchemaField("token", "STRING")],
        STAGING: staging_fields(dataset, tuple(reversed(dataset.column_names))),
    }
    return {table: [field.to_api_repr() for field in columns] for table, columns in fields.items()}


@pytest.mark.parametrize("dataset", SPECS, ids=lambda dataset: dataset.name)
def test_googles_analyzer_accepts_every_statement(dataset: Dataset) -> None:
    from gcp_emulator import analyzer

    types = {"STRING": analyzer.STRING, "INT64": analyzer.INTEGER, "TIMESTAMP": analyzer.TIMESTAMP}
    parameters = {name: types[kind] for name, kind in COLUMNS.items()}
    parameters |= {"filename": analyzer.STRING, "expected_token": analyzer.STRING}
    for sql in statements_for(dataset):
        analyzer.check(sql, tables_of(dataset), parameters)


@pytest.mark.parametrize("dataset", [each for each in SPECS if each.is_monthly], ids=lambda dataset: dataset.name)
def test_checksums_do_not_overflow_with_many_rows_of_a_day(dataset: Dataset) -> None:
    """The sum of 40-bit numbers may exceed an INT64 with 8.4 million rows, a NUMERIC with no table's."""
    from gcp_emulator import analyzer

    query = FileRows(PLACE, Release(dataset, FEBRUARY), DAYS).checksums_query()
    columns = analyzer.columns(analyzer.check(query, tables_of(dataset), {"filename": analyzer.STRING}))
    _, _, *sums = [column["type"] for column in columns]
    digests, counts_and_sums = sums[:3], sums[3:]
    assert {*digests, *counts_and_sums[1::2]} == {"NUMERIC"}


def test_analyzer_checks_every_named_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    used = set()

    class Statements(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            used.add(name)
            return super().__getitem__(name)

    statements = Statements(named_statements("bigquery"))
    monkeypatch.setattr(sql_text, "named_statements", lambda _: statements)
    for dataset in SPECS:
        list(statements_for(dataset))
    assert used == statements.keys()


def test_condition_on_days_compares_with_constants_so_that_partitions_are_pruned() -> None:
    days = [datetime.date(2019, 1, day) for day in (31, 30, 29)] + [datetime.date.max, None]
    assert days_condition(dataset_named("green"), "t", days) == (
        "((`t`.`lpep_pickup_datetime` >= TIMESTAMP '2019-01-29 00:00:00+00'"
        " AND `t`.`lpep_pickup_datetime` < TIMESTAMP '2019-02-01 00:00:00+00')"
        " OR `t`.`lpep_pickup_datetime` >= TIMESTAMP '9999-12-31 00:00:00+00'"
        " OR `t`.`lpep_pickup_datetime` IS NULL)"
    )


def test_every_pair_of_types_in_a_spec_has_edge_cases() -> None:
    declared = {(c.postgres_type, c.bigquery_type) for dataset in SPECS for c in dataset.columns}
    assert declared <= VALUES.keys()


def test_values_have_the_same_text_as_in_postgres(database: PostgresDatabase) -> None:
    from gcp_emulator import analyzer

    assert dict(zip(EDGE_CASES, analyzer.evaluate(texts_query()), strict=True)) == texts_in_postgres(database)


def texts_in_postgres(database: PostgresDatabase) -> dict[EdgeCase, str]:
    """The text of each edge case in PostgreSQL."""
    casts = [f"CAST(%s AS {postgres})::text" for (postgres, _), _ in EDGE_CASES]
    query = f"SELECT {', '.join(f'coalesce({cast}, %s)' for cast in casts)}"
    values = [part for _, value in EDGE_CASES for part in (value, "")]
    return dict(zip(EDGE_CASES, execute(database, query, *values)[0], strict=True))


def texts_query() -> str:
    """A query for the texts of all edge cases in BigQuery, in one row."""
    expressions = [column_text(Column(f"c{index}", *types, "")) for index, (types, _) in enumerate(EDGE_CASES)]
    columns = ", ".join(f"{literal(types[1], value)} AS c{index}" for index, (types, value) in enumerate(EDGE_CASES))
    return f"SELECT {', '.join(expressions)} FROM (SELECT {columns})"


def test_row_ids_are_the_same_as_in_postgres_for_every_type(
    prepared_cloud: GoogleCloud, database: PostgresDatabase, tmp_path: Path
) -> None:
    """On the emulator; the other tests rely on this when they compare its row ids."""
    column_values = [VALUES[column.postgres_type, column.bigquery_type] for column in INVENTED.columns]
    lines = [csv_line(values[n % len(values)] for values in column_values) for n in range(max(map(len, column_values)))]
    blank_line = b"," * (len(column_values) - 1)
    layout: dict[str, Any] = {
        "dataset": INVENTED,
        "header": csv_line(column.source_name for column in INVENTED.columns),
    }
    load(database, write_load_job([*lines, blank_line], tmp_path, **layout), silent)
    load_lines(prepared_cloud, [*lines, blank_line], tmp_path, **layout)

    ids = execute(database, "SELECT unique_row_id FROM invented ORDER BY 1")
    assert len(ids) > len(lines)
    assert prepared_cloud.rows("SELECT TO_HEX(unique_row_id) FROM invented ORDER BY 1") == ids


def literal(bigquery_type: str, value: str | None) -> str:
    """An SQL expression for a value as BigQuery's load jobs read it from CSV: a cast from its text."""
    if value is None:
        return f"CAST(NULL AS {bigquery_type})"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'CAST("{escaped}" AS {bigquery_type})'


def csv_line(values: Iterable[str]) -> bytes:
    return ",".join('"' + value.replace('"', '""') + '"' for value in values).encode()
