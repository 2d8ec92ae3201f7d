"""Whatever a table holds comes back as it was, under ids that are those of the formula; hypothesis makes the tables."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import JANUARY, execute
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from row_ids import row_id, rows_with_another_id, text_of
from trips import job_of

from pipeline.datasets import Column, Dataset, dataset_named
from pipeline.progress import silent
from pipeline.releases import csv_file
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

# One column of each type that a spec may name, in an order that makes unseparated keys meet.
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
    path="things_{month}.csv",
    columns=tuple(Column(name, type_, "STRING", name) for name, type_ in TYPES.items()),
    row_key=tuple(TYPES)[:-1],
    event_time="at",
)
KEY = len(THINGS.row_key)
HEADER = ",".join(TYPES).encode()

# PostgreSQL's text knows no NUL; UTF-8 knows no surrogates.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text('",\r\n\\. \té𝄞0a', max_size=12)
times = st.datetimes(datetime.datetime(1, 1, 1)) | st.sampled_from(
    [datetime.datetime(2019, 1, 2, 3, 4, 5, 600_000), "infinity", "-infinity"]
)
doubles = st.floats(width=64) | st.sampled_from([-0.0, 0.1, 1e15, 1e16, 1e-5, 5e-324, 1.7976931348623157e308, 123456.0])
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
# No shrinking, as every try costs a load.
quick = settings(
    max_examples=40,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

NOTHING: tuple[Any, ...] = (None,) * len(TYPES)
ODD: tuple[Any, ...] = ("", datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999), math.nan, -(2**63), 2**31 - 1)
ODD += (datetime.date(1, 1, 1), Decimal("-0.000"), False, '\\.\n"\r\n')


@pytest.fixture(params=[4 << 20, 300], ids=["one block", "many blocks"])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", request.param)


def cell(value: Any) -> str:
    """A value as a CSV file holds it: NULL is nothing, and an empty text is quoted to tell it from NULL."""
    text = repr(value) if isinstance(value, float) else text_of(value)
    return '"' + text.replace('"', '""') + '"' if isinstance(value, str) else text


@pytest.mark.usefixtures("block_bytes")
@quick
@given(table=tables)
@example(table=[NOTHING, NOTHING, ODD, ODD])
@example(
    table=[
        ("1", datetime.datetime(2019, 1, 2), 0.1, 23, *NOTHING[4:]),
        ("1", datetime.datetime(2019, 1, 2), 0.12, 3, *NOTHING[4:]),
    ]
)
def test_any_table_comes_back_as_it_was(
    database: PostgresDatabase, tmp_path: Path, table: list[tuple[Any, ...]]
) -> None:
    lines = [",".join(map(cell, row)).encode() for row in table]

    entry = load(database, job_of(lines, tmp_path, spec=THINGS, header=HEADER, replace=True), silent)

    ids = Counter(row_id(row[:KEY]) for row in table)
    assert (entry.rows_read, entry.rows_loaded) == (len(table), len(ids))
    # Of rows that share an id, one is in the table and the others are on the side, where JSON knows no negative zero.
    columns = ", ".join(f"{name}::text" for name in TYPES)
    aside = "SELECT (jsonb_populate_record(NULL::things, row_values)).* FROM load_quarantine"
    query = f"SELECT unique_row_id, {columns} FROM (SELECT * FROM things UNION ALL {aside}) AS every_row"
    expected = Counter((row_id(row[:KEY]), *map(read_back, row)) for row in table)
    assert Counter((id_, *map(read_back, row)) for id_, *row in execute(database, query)) == expected


def read_back(value: Any) -> str | None:
    text = None if value is None else text_of(value)
    return "0" if text == "-0" else text


greens = st.fixed_dictionaries(
    {
        column.name: st.none()
        | (st.text("0123456789YN", max_size=3) if column.postgres_type == "text" else VALUES[column.postgres_type])
        for column in dataset_named("green").columns
    }
)


@quick
@given(table=st.lists(greens, min_size=1, max_size=25))
def test_row_ids_of_any_green_month_are_those_of_the_formula(
    database: PostgresDatabase, tmp_path: Path, green: Dataset, table: list[dict[str, Any]]
) -> None:
    lines = [",".join(cell(row[name]) for name in green.column_names).encode() for row in table]

    entry = load(database, job_of(lines, tmp_path, JANUARY, replace=True), silent)

    ids = {row_id(row[name] for name in green.row_key) for row in table}
    assert entry.rows_loaded == len(ids)
    assert {found for (found,) in execute(database, "SELECT unique_row_id FROM green_tripdata")} == ids
    assert rows_with_another_id(database, green) == 0
