"""Malformed rows: by default the load fails and reports the line; if they are allowed, they are quarantined."""

from __future__ import annotations

import gzip
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import execute
from trips import FEBRUARY, HEADER, UNEXPECTED_FORMATS, row_count, schema_contents, trip, trips, write_load_job

from pipeline.datasets import dataset_named
from pipeline.errors import PipelineError
from pipeline.progress import silent
from pipeline.releases import csv_file
from pipeline.warehouses.postgres.connection import PostgresDatabase
from pipeline.warehouses.postgres.loading import load

GOOD = trip(50)
# By problem: the row, and a pattern of the message about it, with column, problem and value.
BAD_ROWS = {
    "a missing column": (GOOD.rsplit(b",", 1)[0], r'missing data for column "congestion_surcharge"'),
    "an extra column": (GOOD + b",9", r"extra data after last expected column"),
    "not a number": (trip(50, fare_amount="8,50".replace(",", ";")), r"column fare_amount: .*double precision.*8;50"),
    "not an integer": (trip(50, passenger_count="1.5"), r"column passenger_count: .*integer.*1\.5"),
    "integer out of range": (trip(50, trip_type="2147483648"), r"column trip_type: .*2147483648.*out of range"),
    "double out of range": (trip(50, tip_amount="1e400"), r"column tip_amount: .*1e400.*out of range"),
    "not a time": (trip(50, lpep_pickup_datetime="yesterdayish"), r"column lpep_pickup_datetime: .*yesterdayish"),
    "a day that does not exist": (
        trip(50, lpep_dropoff_datetime="2019-02-30 00:00:00"),
        r"column lpep_dropoff_datetime: .*02-30",
    ),
    "a NUL byte": (trip(50, store_and_fwd_flag="\0"), r"invalid byte sequence.*0x00"),
    "not UTF-8": (GOOD.replace(b",N,", b",\xff\xfe,"), r"invalid byte sequence.*0xff"),
    "only \\.": (rb"\.", r"missing data for column.*only: \\\."),
    "a blank line": (b"", r"missing data for column"),
    "quotes around two columns": (
        GOOD.replace(b"41,42", b'"41,42"'),
        r'missing data for column "congestion_surcharge".*41,42',
    ),
}
LINES_IN_QUOTES = replace(dataset_named("green"), lines_in_quotes=True)
bad_rows = pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())


@pytest.fixture(params=[4 << 20, 700], ids=["one block", "many blocks"])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", request.param)


@bad_rows
def test_bad_row_fails_the_load_and_nothing_changes(
    database: PostgresDatabase, tmp_path: Path, row: bytes, message: str
) -> None:
    load(database, write_load_job(trips(3), tmp_path), silent)
    load(database, write_load_job(trips(3, FEBRUARY), tmp_path, FEBRUARY), silent)
    before = schema_contents(database)

    with pytest.raises(PipelineError) as failure:
        load(database, write_load_job([*trips(30), row, trip(60)], tmp_path, replace=True), silent)

    error = str(failure.value)
    assert re.search(rf"green_tripdata_2019-01\.csv, line 32, {message}", error)
    assert "--LoadTripdata-max-bad-rows" in error
    assert len(error.splitlines()) == 1
    assert schema_contents(database) == before


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_quarantined_text_does_not_depend_on_the_roles_encoding(
    database: PostgresDatabase, tmp_path: Path, encoding: str
) -> None:
    other = replace(database, dsn=f"{database.dsn}&options={quote(f'-c client_encoding={encoding}')}")
    rows = [trip(50, fare_amount=text).decode() for text in ("Ã©", "€")]

    load(other, write_load_job([*trips(3), *(row.encode() for row in rows)], tmp_path, max_bad_rows=2), silent)

    assert execute(database, "SELECT line FROM load_quarantine ORDER BY line_number") == [(row,) for row in rows]


@bad_rows
@pytest.mark.usefixtures("block_bytes")
def test_allowed_bad_row_is_quarantined_with_its_line_and_reason(
    database: PostgresDatabase, tmp_path: Path, row: bytes, message: str
) -> None:
    entry = load(database, write_load_job([*trips(30), row, trip(60)], tmp_path, max_bad_rows=1), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_duplicate, entry.rows_rejected) == (32, 31, 0, 1)
    assert row_count(database) == 31
    query = "SELECT target_table, filename, reason, line_number, line, detail FROM load_quarantine"
    [(*where, line, detail)] = execute(database, query)
    assert where == ["green_tripdata", "green_tripdata_2019-01.csv", "malformed", 32]
    assert line == row.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    assert re.search(message, detail)


@pytest.mark.usefixtures("block_bytes")
def test_exactly_the_bad_rows_are_quarantined(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = trips(60)
    bad = {3: trip(3, extra="x"), 4: b"", 5: b"\xff", 31: rb"\.", 32: trip(32) + b",", 58: trip(58, extra="\0")}
    for number, line in bad.items():
        lines[number] = line

    entry = load(database, write_load_job(lines, tmp_path, max_bad_rows=6), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_rejected) == (60, 54, 6)
    kept = execute(database, "SELECT line_number FROM load_quarantine ORDER BY 1")
    assert [number for (number,) in kept] == [number + 2 for number in bad]


@pytest.mark.usefixtures("block_bytes")
def test_one_bad_row_more_than_allowed_fails_the_load(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = [trip(0), trip(1, extra="x"), *trips(40)[2:], trip(40, extra="y"), trip(41, extra="z")]
    load(database, write_load_job(trips(1, FEBRUARY), tmp_path, FEBRUARY), silent)
    before = schema_contents(database)

    with pytest.raises(PipelineError, match=r"max-bad-rows.*now 2"):
        load(database, write_load_job(lines, tmp_path, max_bad_rows=2), silent)

    assert schema_contents(database) == before


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("first", ["\0", "x", "\udcff"], ids=["NUL byte", "not a number", "not UTF-8"])
def test_first_bad_row_of_the_file_is_reported(database: PostgresDatabase, tmp_path: Path, first: str) -> None:
    lines = trips(60)
    lines[20] = trip(20, extra="@").replace(b"@", first.encode("utf-8", "surrogateescape"))
    for number in range(21, 60):
        lines[number] = [trip(number, extra="\0"), trip(number, extra="later")][number % 2]

    with pytest.raises(PipelineError, match=r", line 22, "):
        load(database, write_load_job(lines, tmp_path), silent)


def test_bad_row_is_reported_with_the_number_of_further_bad_rows(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = [trip(number, extra="x") if number in (7, 20, 50, 59) else trip(number) for number in range(60)]
    for allowed, message in ((0, r"line 9, .* \(and 3 more of the 52 rows after it\);"), (3, r'line 61, .*: "x";')):
        with pytest.raises(PipelineError, match=message):
            load(database, write_load_job(lines, tmp_path, max_bad_rows=allowed), silent)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("allowed", [0, 5])
def test_unclosed_quote_fails_the_load_and_is_reported_with_its_line(
    database: PostgresDatabase, tmp_path: Path, allowed: int
) -> None:
    """Regardless of how many bad rows are allowed: all rows after the quote would be read as a single row."""
    lines = [*trips(30), trip(30, store_and_fwd_flag='"N'), *trips(60)[31:]]

    with pytest.raises(PipelineError, match=r"green_tripdata_2019-01\.csv, line 32: a quote that is not closed"):
        load(database, write_load_job(lines, tmp_path, max_bad_rows=allowed), silent)

    assert row_count(database) == 0


@pytest.mark.usefixtures("block_bytes")
def test_quote_closed_on_a_later_line_makes_one_bad_row_of_several_lines(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    lines = trips(30)
    lines[10], lines[12] = trip(10, store_and_fwd_flag='"N'), trip(12, ratecodeid='1"')

    with pytest.raises(PipelineError, match=", line 12: a quote that is not closed in its line"):
        load(database, write_load_job(lines, tmp_path), silent)
    with pytest.raises(PipelineError, match=", line 12, ") as failure:
        load(database, write_load_job(lines, tmp_path, dataset=LINES_IN_QUOTES), silent)
    assert len(str(failure.value).splitlines()) == 1

    entry = load(database, write_load_job(lines, tmp_path, dataset=LINES_IN_QUOTES, max_bad_rows=1), silent)
    assert (entry.rows_read, entry.rows_loaded, entry.rows_rejected) == (28, 27, 1)
    [(line_number, line)] = execute(database, "SELECT line_number, line FROM load_quarantine")
    assert (line_number, line) == (12, b"\r\n".join(lines[10:13]).decode())


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("final", [True, False], ids=["final newline", "no final newline"])
def test_line_ends_and_the_final_newline_make_no_difference(
    database: PostgresDatabase, tmp_path: Path, end: bytes, final: bool
) -> None:
    job = write_load_job(trips(30), tmp_path, end=end)
    if not final:
        job.file.write_bytes(job.file.read_bytes().removesuffix(end))

    assert load(database, job, silent).rows_loaded == 30
    assert execute(database, "SELECT DISTINCT congestion_surcharge, vendorid FROM green_tripdata") == [(0.0, "2")]


def test_file_may_mix_line_ends(database: PostgresDatabase, tmp_path: Path) -> None:
    """As BigQuery accepts it: COPY by itself refuses the lines that do not end like the first."""
    lines = [trip(number) + b"\r" * (number % 2) for number in range(9)]

    entry = load(database, write_load_job(lines, tmp_path, end=b"\n", max_bad_rows=9), silent)

    assert (entry.rows_read, entry.rows_loaded, entry.rows_rejected) == (9, 9, 0)
    assert execute(database, "SELECT DISTINCT congestion_surcharge FROM green_tripdata") == [(0.0,)]


def test_bad_row_without_a_final_newline_is_reported_with_its_line(database: PostgresDatabase, tmp_path: Path) -> None:
    job = write_load_job([*trips(3), trip(3, congestion_surcharge="x")], tmp_path)
    job.file.write_bytes(job.file.read_bytes().removesuffix(b"\r\n"))

    with pytest.raises(PipelineError, match=r", line 5, column congestion_surcharge: .*x"):
        load(database, job, silent)


def test_columns_are_matched_by_name_not_by_position(database: PostgresDatabase, tmp_path: Path) -> None:
    def reversed_columns(line: bytes) -> bytes:
        return b",".join(reversed(line.split(b",")))

    load(database, write_load_job(trips(30), tmp_path), silent)
    expected = schema_contents(database)["green_tripdata"]
    load(
        database,
        write_load_job(
            map(reversed_columns, trips(30)), tmp_path, header=reversed_columns(HEADER).upper(), replace=True
        ),
        silent,
    )

    assert schema_contents(database)["green_tripdata"] == expected


def test_quoted_text_keeps_its_quotes_commas_and_newlines(database: PostgresDatabase, tmp_path: Path) -> None:
    text = 'a "quoted", \\.\r\n\\.x\nand broken text'
    quoted = '"' + text.replace('"', '""') + '"'

    lines = [trip(0), trip(1, store_and_fwd_flag=quoted), trip(2)]
    load(database, write_load_job(lines, tmp_path, dataset=LINES_IN_QUOTES), silent)

    assert execute(database, "SELECT store_and_fwd_flag FROM green_tripdata ORDER BY lpep_pickup_datetime") == [
        ("N",),
        (text,),
        ("N",),
    ]


ZONES_HEADER = b'"LocationID","Borough","Zone","service_zone"'


def test_bad_zone_file_leaves_the_loaded_zones_unchanged(database: PostgresDatabase, tmp_path: Path) -> None:
    zones = dataset_named("zones")
    lines = [b'1,"EWR","Newark ""Liberty"" Airport, NJ","EWR"', b'2,"Queens","Jamaica Bay","Boro Zone"']
    load(database, write_load_job(lines, tmp_path, None, dataset=zones, header=ZONES_HEADER), silent)
    rows = execute(database, "SELECT * FROM taxi_zone_lookup ORDER BY locationid")
    assert rows[0] == ("1", "EWR", 'Newark "Liberty" Airport, NJ', "EWR")
    markers = execute(database, "SELECT * FROM load_ledger")

    for bad in (b"3,too few", lines[0], b',"no key","x","y"'):
        job = write_load_job([*lines, bad], tmp_path, None, dataset=zones, header=ZONES_HEADER, replace=True)
        with pytest.raises(PipelineError, match=r"taxi_zone_lookup\.csv, line 4, "):
            load(database, job, silent)

    assert execute(database, "SELECT * FROM taxi_zone_lookup ORDER BY locationid") == rows
    assert execute(database, "SELECT * FROM load_ledger") == markers


@pytest.mark.parametrize("values", UNEXPECTED_FORMATS.values(), ids=UNEXPECTED_FORMATS.keys())
def test_value_in_an_unexpected_format_makes_a_row_bad(
    database: PostgresDatabase, tmp_path: Path, values: dict[str, str]
) -> None:
    lines = [*trips(30), trip(30, **values), trip(31)]
    [(column, value)] = values.items()

    with pytest.raises(PipelineError, match=rf", line 32, column {column}: .*{re.escape(value)}"):
        load(database, write_load_job(lines, tmp_path), silent)
    entry = load(database, write_load_job(lines, tmp_path, max_bad_rows=1), silent)

    assert (entry.rows_loaded, entry.rows_rejected) == (31, 1)
    [(line,)] = execute(database, "SELECT line FROM load_quarantine")
    assert line == lines[30].decode()


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ({"trip_distance": ".79"}, ("trip_distance", 0.79)),
        ({"tip_amount": ".00"}, ("tip_amount", 0.0)),
        ({"tip_amount": "8.0"}, ("tip_amount", 8.0)),
        ({"tip_amount": "8."}, ("tip_amount", 8.0)),
        ({"trip_distance": "1e-05"}, ("trip_distance", 0.00001)),
        ({"fare_amount": "-0.5"}, ("fare_amount", -0.5)),
        ({"passenger_count": '"3"'}, ("passenger_count", 3)),
        ({"passenger_count": "007"}, ("passenger_count", 7)),
        ({"vendorid": "2.0"}, ("vendorid", "2")),
        ({"pulocationid": "41.0"}, ("pulocationid", "41")),
        ({"lpep_pickup_datetime": "2019-01-01T00:07:00"}, ("lpep_pickup_datetime::text", "2019-01-01 00:07:00")),
        ({"lpep_pickup_datetime": "2019-01-01 00:07:00.25"}, ("lpep_pickup_datetime::text", "2019-01-01 00:07:00.25")),
        ({"lpep_pickup_datetime": ""}, ("lpep_pickup_datetime", None)),
        ({"store_and_fwd_flag": "é"}, ("store_and_fwd_flag", "é")),
    ],
    ids=str,
)
def test_value_in_an_expected_format_is_accepted(
    database: PostgresDatabase, tmp_path: Path, values: dict[str, str], stored: tuple[str, Any]
) -> None:
    load(database, write_load_job([trip(7, **values)], tmp_path), silent)

    column, value = stored
    assert execute(database, f"SELECT {column} FROM green_tripdata") == [(value,)]


def test_tens_of_thousands_of_bad_rows_are_quarantined_in_one_load(database: PostgresDatabase, tmp_path: Path) -> None:
    lines = [trip(number, extra="x") if number % 2 else trip(number) for number in range(40_000)]
    seen: list[int] = []
    job = write_load_job(lines, tmp_path, max_bad_rows=100_000)

    entry = load(database, job, lambda done, total: seen.append(done))

    assert (entry.rows_loaded, entry.rows_rejected, row_count(database, "load_quarantine")) == (20_000, 20_000, 20_000)
    assert seen == sorted(seen)
    assert seen[-1] == 40_000


def test_file_of_a_million_blank_lines_is_refused_without_using_much_memory(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    """The compressed file has only a few kilobytes. Bad rows that are allowed do not use much memory either."""
    job = write_load_job(trips(3), tmp_path)
    assert job.file
    file = job.file.with_suffix(".csv.gz")
    file.write_bytes(gzip.compress(HEADER + b"\n" * 1_000_000))

    for allowed, message in ((0, r"line 2, missing data for column"), (50_000, r"now 50000")):
        tracemalloc.start()
        with pytest.raises(PipelineError, match=message):
            load(database, replace(job, file=file, max_bad_rows=allowed), silent)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100 << 20, allowed
