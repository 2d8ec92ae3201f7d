"""TLC's Parquet months over the years: types change, and columns are added and removed."""

from __future__ import annotations

import datetime
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import execute
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets import Release, dataset_named, parse_month
from pipeline.errors import PipelineError
from pipeline.progress import silent
from pipeline.releases import open_release
from pipeline.releases.parquet_file import ParquetReleaseFile
from pipeline.releases.parquet_values import number_text, postgres_texts
from pipeline.sample import write_month
from pipeline.warehouses import LoadJob
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load


def write_parquet_month(folder: Path, taxi: str, month: str, drop: tuple[str, ...] = (), **columns: pa.Array) -> Path:
    """Writes a sample month of three rows without the columns `drop`; `columns` replace columns or are added."""
    dataset = dataset_named(taxi)
    file = write_month(dataset, parse_month(month), 3, folder, "tlc")
    table = pq.read_table(file)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    pq.write_table(table.drop_columns(list(drop)), file)
    return file


def read(file: Path, taxi: str, month: str, **options: Any) -> tuple[ParquetReleaseFile, list[dict[str, Any]]]:
    with open_release(file, Release(dataset_named(taxi), parse_month(month)), **options) as release:
        assert isinstance(release, ParquetReleaseFile)
        assert release.survey().total() == 3
        return release, pa.Table.from_batches(release.arrow_batches()).to_pylist()


def array_of(type_: pa.DataType, *values: float | None) -> pa.Array:
    return pa.array(values or (1, 2, None), type_)


NULLS = pa.nulls(3)
MONTHS_OF_ALL_YEARS: list[tuple[str, str, tuple[str, ...], dict[str, pa.Array]]] = [
    ("yellow", "2011-01", (), {"congestion_surcharge": NULLS, "airport_fee": NULLS, "VendorID": array_of(pa.int64())}),
    ("yellow", "2020-10", (), {"airport_fee": NULLS, "passenger_count": array_of(pa.float64())}),
    ("yellow", "2023-02", ("airport_fee",), {"Airport_fee": array_of(pa.float64()), "VendorID": array_of(pa.int32())}),
    ("yellow", "2025-01", (), {"cbd_congestion_fee": array_of(pa.float64())}),
    ("yellow", "2026-06", (), {"request_source": pa.array(["A", "HV0003", None], pa.large_string())}),
    ("fhv", "2019-03", (), {"SR_Flag": NULLS, "PUlocationID": array_of(pa.float64())}),
    ("fhv", "2023-02", (), {"SR_Flag": array_of(pa.int64()), "PUlocationID": array_of(pa.int64())}),
    ("fhvhv", "2019-03", (), {"wav_match_flag": NULLS, "airport_fee": NULLS, "PULocationID": array_of(pa.int64())}),
    (
        "fhvhv",
        "2025-01",
        (),
        {"cbd_congestion_fee": array_of(pa.float64()), "access_a_ride_flag": pa.array([" ", "N", "Y"])},
    ),
    ("green", "2019-10", (), {"ehail_fee": NULLS, "VendorID": pa.array([1, 2, None]).dictionary_encode()}),
]


@pytest.mark.parametrize(("taxi", "month", "drop", "columns"), MONTHS_OF_ALL_YEARS, ids=lambda value: str(value)[:10])
def test_months_of_all_years_are_read_as_the_declared_columns(
    tmp_path: Path, taxi: str, month: str, drop: tuple[str, ...], columns: dict[str, pa.Array]
) -> None:
    release, rows = read(write_parquet_month(tmp_path, taxi, month, drop, **columns), taxi, month)

    declared = {column.name: column for column in dataset_named(taxi).columns}
    assert release.columns == tuple(rows[0]) == tuple(declared)
    for name, values in columns.items():
        column = declared[name.lower()]
        expected = [value if value is None or not column.whole else str(int(value)) for value in values.to_pylist()]
        assert [row[name.lower()] for row in rows] == expected
    for name, column in declared.items():
        if not column.is_required_in(parse_month(month), release.source):
            assert {row[name] for row in rows} == {None}


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "VendorID",
            array_of(pa.float64(), 1, 2.5, 3),
            "row 2, column VendorID: cannot be read as a whole number .*2.5",
        ),
        ("VendorID", pa.array(["1", "2.50", "3"]), "row 2, column VendorID: not a whole number: '2.50'"),
        ("VendorID", pa.array(["1.0", "2", "nan"]), "row 3, column VendorID: not a whole number: 'nan'"),
        ("VendorID", pa.array(["1", "CMT", None]), "row 2, column VendorID: not a whole number: 'CMT'"),
        ("passenger_count", array_of(pa.float64(), 1, 2, 2.5), "row 3, column passenger_count: .*2.5"),
        ("passenger_count", array_of(pa.int64(), 1, 2**40, 3), "row 2, column passenger_count: .*1099511627776"),
        (
            "fare_amount",
            array_of(pa.float64(), 1, float("nan"), 3),
            "row 2, column fare_amount: not a finite number: 'nan'",
        ),
        ("extra", pa.array(["1", "0x10", "2"]), "row 2, column extra: .*0x10"),
        ("store_and_fwd_flag", pa.array(["N", "N", "a\0b"]), "row 3, column store_and_fwd_flag: .*NUL"),
        (
            "extra",
            pa.array([[1.0], [2.0], []]),
            "the column extra is of the type list.*cannot be read as double precision",
        ),
        (
            "lpep_dropoff_datetime",
            pa.array([0, 1, 2], pa.timestamp("us", "UTC")),
            "the column lpep_dropoff_datetime is of the type timestamp.*UTC",
        ),
        (
            "lpep_dropoff_datetime",
            pa.array([0, 1, 300_000_000_000_000_000], pa.timestamp("us")),
            "row 3, column lpep_dropoff_datetime: a time outside the years 1 to 9999",
        ),
    ],
)
def test_value_that_does_not_fit_the_column_is_reported_with_its_column(
    tmp_path: Path, column: str, values: pa.Array, message: str
) -> None:
    file = write_parquet_month(tmp_path, "green", "2024-07", **{column: values})
    with pytest.raises(PipelineError, match=message) as refused:
        read(file, "green", "2024-07")
    assert str(refused.value).startswith(str(file)) and "\n" not in str(refused.value)


def test_whole_numbers_written_as_text_lose_a_point_and_zeros(tmp_path: Path) -> None:
    file = write_parquet_month(
        tmp_path, "green", "2024-07", VendorID=pa.array(["1.0", "2", None]), RatecodeID=pa.array(["", "99.", "5"])
    )
    _, rows = read(file, "green", "2024-07")
    assert [(row["vendorid"], row["ratecodeid"]) for row in rows] == [("1", ""), ("2", "99"), (None, "5")]


def test_missing_column_is_reported_for_a_month_that_requires_it(tmp_path: Path) -> None:
    file = write_parquet_month(tmp_path, "yellow", "2025-01", ("cbd_congestion_fee",))
    with pytest.raises(PipelineError, match="the file lacks cbd_congestion_fee; if the publisher changed it"):
        read(file, "yellow", "2025-01")


def test_undeclared_column_is_ignored_if_empty_otherwise_reported_with_its_declaration(tmp_path: Path) -> None:
    empty = write_parquet_month(tmp_path, "green", "2024-07", new_fee=pa.nulls(3, pa.float64()))
    assert read(empty, "green", "2024-07")[0].notes == (
        "the column 'new_fee' is not declared and was left out: it has no values",
    )
    full = write_parquet_month(tmp_path, "green", "2024-07", new_fee=array_of(pa.float64()))
    line = r'- \{name: new_fee, postgres: double precision, bigquery: NUMERIC, since: 2024-07, description: "…"\}'
    with pytest.raises(PipelineError, match=line):
        read(full, "green", "2024-07")
    notes = read(full, "green", "2024-07", ignore_unknown_columns=True)[0].notes
    assert notes == ("the column 'new_fee' is not declared and was left out: its 2 values were ignored",)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("new\nfee\x1b[2J", array_of(pa.float64()), r"the column 'new\nfee\x1b[2J' is not declared and has values"),
        (
            "f" * 3_000,
            array_of(pa.float64()),
            f"the column '{'f' * 80}…' is not declared and has values; declare it",
        ),
        (
            "new fee",
            array_of(pa.float64()),
            "; declare it in pipeline/datasets/green.yaml by a name of your own, with this one in `aliases`, or leave",
        ),
        ("FileName", pa.array(["a", "b", None]), "; a spec cannot declare such a name, so leave such columns out with"),
        (
            "new_fees",
            pa.array([{"a": 1.5}, None, {"a": None}]),
            "has values of the type struct<a: double>; a spec cannot declare such a type, so leave such columns out",
        ),
        ("new_time", pa.array([1, 2, None], pa.timestamp("us", "UTC")), "of the type timestamp[us, tz=UTC]; a spec"),
    ],
)
def test_undeclared_column_of_any_name_or_type_is_one_line_with_what_can_be_done(
    tmp_path: Path, name: str, values: pa.Array, message: str
) -> None:
    file = write_parquet_month(tmp_path, "green", "2024-07", **{name: values})
    with pytest.raises(PipelineError) as refused:
        read(file, "green", "2024-07")
    reported = str(refused.value)
    assert message in reported and "\n" not in reported and len(reported) < 1_000
    (note,) = read(file, "green", "2024-07", ignore_unknown_columns=True)[0].notes
    assert "values were ignored" in note and "\n" not in note and len(note) < 1_000


def test_nested_column_with_values_is_not_taken_for_empty(tmp_path: Path) -> None:
    """Its statistics count as many nulls as the file has rows."""
    tags = pa.array([[1.5, None], [2.5, None], [None]], pa.list_(pa.float64()))
    with pytest.raises(PipelineError, match="the column 'tags' is not declared and has values of the type list"):
        read(write_parquet_month(tmp_path, "green", "2024-07", tags=tags), "green", "2024-07")
    file = write_parquet_month(tmp_path, "green", "2024-07", tags=pa.array([[1.5, None, None], [None] * 4, None]))
    notes = read(file, "green", "2024-07", ignore_unknown_columns=True)[0].notes
    assert notes == ("the column 'tags' is not declared and was left out: its 2 values were ignored",)


def test_repeated_column_is_reported_once(tmp_path: Path) -> None:
    file = write_parquet_month(tmp_path, "yellow", "2024-07", AIRPORT_FEE=array_of(pa.float64()))
    with pytest.raises(PipelineError, match="the file repeats 'AIRPORT_FEE'; if"):
        read(file, "yellow", "2024-07")
    file = write_parquet_month(tmp_path, "green", "2024-07")
    table = pq.read_table(file)
    pq.write_table(table.append_column("extra", table["extra"]), file)
    with pytest.raises(PipelineError, match="the file repeats 'extra'; if"):
        read(file, "green", "2024-07")


@pytest.mark.parametrize("type_", [pa.decimal128(12, 2), pa.decimal256(40, 2)], ids=str)
def test_decimal_amount_is_the_double_that_its_digits_mean(tmp_path: Path, type_: pa.DataType) -> None:
    """One in eight amounts to the cent is another double if its digits are multiplied by 0.01."""
    amounts = [Decimal("14.20"), Decimal("-0.79"), None]
    file = write_parquet_month(tmp_path, "green", "2024-07", fare_amount=pa.array(amounts, type_))
    _, rows = read(file, "green", "2024-07")
    assert [row["fare_amount"] for row in rows] == [14.2, -0.79, None]


def test_csv_text_of_a_month_has_the_format_of_postgresql(tmp_path: Path) -> None:
    flags = pa.array(["", 'a,"b"', None])
    file = write_parquet_month(
        tmp_path, "green", "2024-07", store_and_fwd_flag=flags, fare_amount=array_of(pa.float64(), 0.79, 8, -1e-5)
    )
    with open_release(file, Release(dataset_named("green"), parse_month("2024-07"))) as release:
        header, *lines = b"".join(release.csv_text()).decode().splitlines()
    assert header == ",".join(column.source_name for column in dataset_named("green").columns)
    assert [field in line for field, line in zip((',"",', ',"a,""b""",', ",,"), lines, strict=True)] == [True] * 3
    assert [field in line for field, line in zip((",0.79,", ",8,", ",-1e-05,"), lines, strict=True)] == [True] * 3


@pytest.mark.parametrize("text", ["two\nlines", "two\rlines"])
def test_csv_has_line_breaks_in_texts_only_if_the_spec_says_so(tmp_path: Path, text: str) -> None:
    """BigQuery would refuse the upload as a file with an unclosed quote, and its text is not in the source's file."""
    file = write_parquet_month(tmp_path, "green", "2024-07", store_and_fwd_flag=pa.array(["Y", text, None]))
    green, month = dataset_named("green"), parse_month("2024-07")
    with open_release(file, Release(replace(green, lines_in_quotes=True), month)) as release:
        assert f'"{text}"'.encode() in b"".join(release.csv_text())
    with (
        open_release(file, Release(green, month)) as release,
        pytest.raises(PipelineError, match=r"a text has a line break.*pipeline/datasets/green\.yaml.*lines_in_quotes"),
    ):
        list(release.csv_text())


@pytest.mark.parametrize("rows", [1, 8_191, 20_000])
def test_all_rows_are_copied_even_if_batches_are_small(database: PostgresDatabase, tmp_path: Path, rows: int) -> None:
    """The encoder returns nothing for a batch of few bytes; it returns their rows at the end."""
    release = Release(dataset_named("fhv"), parse_month("2023-02"))
    file = write_month(release.dataset, parse_month("2023-02"), 1, tmp_path, "tlc")
    one = pq.read_table(file)
    trip = one.schema.get_field_index("dispatching_base_num")
    names = pa.array([str(n) for n in range(rows)], pa.large_string())
    many = pa.concat_tables([one] * rows).set_column(trip, one.schema.field(trip), names)
    pq.write_table(many, file)

    entry = load(database, LoadJob("LoadTripdata", release, "test", file=file), silent)
    assert (entry.rows_read, entry.rows_loaded) == (rows, rows)
    ids = "SELECT count(DISTINCT unique_row_id), max(dispatching_base_num::int) FROM fhv_tripdata"
    assert execute(database, ids) == [(rows, rows - 1)]


def test_numbers_and_times_have_the_same_text_as_in_postgresql(server: str) -> None:
    connection = psycopg2.connect(server)
    connection.autocommit = True

    @settings(max_examples=300, deadline=None)
    @given(
        st.floats(-1e15, 1e15, allow_subnormal=False) | st.sampled_from([1e14, 1e15, 1e-4, 9.99e-5, -0.0, 1e10, 1e22]),
        st.datetimes(datetime.datetime(1, 1, 1)),
    )
    def same(number: float, time: datetime.datetime) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::float8::text, %s::timestamp::text", (repr(number), str(time)))
            expected = cursor.fetchone()
        assert expected == (number_text(number), postgres_texts(pa.array([time], pa.timestamp("us")))[0].as_py())
        assert postgres_texts(pa.array([number, 1.5]))[0].as_py() == (expected[0] if number == number else "NaN")

    same()
    connection.close()
