"""Any table is loaded with unchanged values and with the ids of the formula; Hypothesis generates the tables."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import JANUARY, execute
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from row_ids import count_rows_with_other_ids, row_id, text_of
from trips import COLUMNS, write_load_job

from pipeline.datasets import Column, Dataset, Source, dataset_named
from pipeline.progress import silent
from pipeline.releases import csv_file
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

# One column of each type that a spec may use, in an order in which different keys can have the same joined text.
TYPES = {
    "label": "text",
    "at": "timestamp",
    "amount": "double precision",
    "number": "bigint",
    "small": "integer",
    "day": "date",
    "price": "numeric",
    "flag": "boolean",
    "remark": "text",
}
THINGS = replace(
    dataset_named("green"),
    name="things",
    table="things",
    sources=(Source("mirror", "csv", "things_{month}.csv"),),
    key_blanks={},
    lines_in_quotes=True,
    columns=tuple(Column(name, type_, "STRING", name) for name, type_ in TYPES.items()),
    row_key=tuple(TYPES)[:-1],
    event_time="at",
)
KEY = len(THINGS.row_key)
HEADER = ",".join(TYPES).encode()

# PostgreSQL's text cannot contain NUL, and UTF-8 cannot encode surrogates.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text('",\r\n\\. \té𝄞0a', max_size=12)
times = st.datetimes(datetime.datetime(1, 1, 1)) | st.just(datetime.datetime(2019, 1, 2, 3, 4, 5, 600_000))
doubles = st.floats(-9e99, 9e99).filter(lambda value: value == 0 or abs(value) > 1e-99)
doubles |= st.sampled_from([-0.0, 0.1, 1e15, 1e16, 1e-5, 1e-99, 123456.0])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "timestamp": times,
    "double precision": doubles,
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "date": st.dates(),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=3),
    "boolean": st.booleans(),
}
rows = st.tuples(*(st.none() | VALUES[type_] for type_ in TYPES.values()))
tables = st.lists(rows, min_size=1, max_size=25)
# No shrinking, because each attempt is a load.
quick = settings(
    max_examples=40,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

ALL_NULL: tuple[Any, ...] = (None,) * len(TYPES)
EXTREME_VALUES: tuple[Any, ...] = ("", datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999), -0.0, -(2**63), 2**31 - 1)
EXTREME_VALUES += (datetime.date(1, 1, 1), Decimal("-0.000"), False, '\\.\n"\r\n')


@pytest.fixture(params=[4 << 20, 300], ids=["one block", "many blocks"])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", request.param)


def cell(value: Any) -> str:
    """Returns a value as a CSV field: NULL is empty; texts are quoted, so that an empty one differs from NULL."""
    text = repr(value) if isinstance(value, float) else text_of(value)
    return '"' + text.replace('"', '""') + '"' if isinstance(value, str) else text


@pytest.mark.usefixtures("block_bytes")
@quick
@given(table=tables)
@example(table=[ALL_NULL, ALL_NULL, EXTREME_VALUES, EXTREME_VALUES])
@example(
    table=[
        ("1", datetime.datetime(2019, 1, 2), 0.1, 23, *ALL_NULL[4:]),
        ("1", datetime.datetime(2019, 1, 2), 0.12, 3, *ALL_NULL[4:]),
    ]
)
def test_any_table_is_loaded_with_unchanged_values(
    database: PostgresDatabase, tmp_path: Path, table: list[tuple[Any, ...]]
) -> None:
    lines = [",".join(map(cell, row)).encode() for row in table]

    entry = load(database, write_load_job(lines, tmp_path, dataset=THINGS, header=HEADER, replace=True), silent)

    distinct = {tuple(map(exactly, row)): row for row in table}.values()
    assert (entry.rows_read, entry.rows_loaded) == (len(table), len(distinct))
    assert {found for (found,) in execute(database, "SELECT unique_row_id FROM things")} == ids_of(distinct)
    # Of equal rows, all but one are in the quarantine, whose JSON has no negative zero.
    columns = ", ".join(f"{name}::text" for name in TYPES)
    quarantined = "SELECT (jsonb_populate_record(NULL::things, row_values)).* FROM load_quarantine"
    query = f"SELECT {columns} FROM (SELECT * FROM things UNION ALL {quarantined}) AS every_row"
    assert Counter(tuple(map(read_back, row)) for row in execute(database, query)) == Counter(
        tuple(map(read_back, row)) for row in table
    )


def exactly(value: Any) -> str | None:
    return None if value is None else text_of(value)


def ids_of(distinct: Iterable[tuple[Any, ...]]) -> set[str]:
    """Returns the ids of rows that all differ; of rows with the same key, those from the second on have a number."""
    keys = Counter(tuple(map(text_of, row[:KEY])) for row in distinct)
    joined = Counter("".join(key) for key in keys.elements())
    return {row_id([key, "" if n == 1 else f"#{n}"]) for key, count in joined.items() for n in range(1, count + 1)}


def read_back(value: Any) -> str | None:
    text = None if value is None else text_of(value)
    return "0" if text == "-0" else text


codes = st.text("0123456789", min_size=1, max_size=3)
flags = st.text("0123456789YN", max_size=3)
greens = st.fixed_dictionaries(
    {
        column.name: st.none()
        | (codes if column.whole else flags if column.postgres_type == "text" else VALUES[column.postgres_type])
        for column in COLUMNS
    }
)


@quick
@given(table=st.lists(greens, min_size=1, max_size=25))
def test_row_ids_of_any_green_month_match_the_formula(
    database: PostgresDatabase, tmp_path: Path, green: Dataset, table: list[dict[str, Any]]
) -> None:
    lines = [",".join(cell(row[column.name]) for column in COLUMNS).encode() for row in table]

    entry = load(database, write_load_job(lines, tmp_path, JANUARY, replace=True), silent)

    for row in table:
        row["vendorid"] = None if row["passenger_count"] is None else row["vendorid"]
    ids = {row_id(row[name] for name in green.row_key) for row in table}
    assert entry.rows_loaded >= len(ids)
    found = {found for (found,) in execute(database, "SELECT unique_row_id FROM green_tripdata")}
    assert found >= ids
    assert count_rows_with_other_ids(database, green) == entry.rows_loaded - len(ids)
